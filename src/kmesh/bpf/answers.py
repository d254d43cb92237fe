"""The kernel's tables for core/lookup.py: the pinned maps themselves, or a copy of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from kmesh.abi.layout import CIDR_SIZE, SLOT_SIZE, Cidr, CidrKey, Config, Enrol, Reason
from kmesh.bpf import lib
from kmesh.bpf.copies import memory
from kmesh.bpf.fake_guard import admit
from kmesh.core.adopt import decode_enrol
from kmesh.core.commands import (
    CIDR,
    CONFIG,
    ENROL,
    EXEMPT,
    GUARD,
    LINK,
    MATCH,
    PEER,
    PREFIX,
    ROW,
    SLOT,
    VIP,
)  # fmt: skip
from kmesh.core.route_why import longest
from kmesh.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kmesh.bpf.fake_guard import Tables
    from kmesh.bpf.load import DataPlane
    from kmesh.core.policy import Attempt

GUARDING = (GUARD, PREFIX, MATCH, PEER, EXEMPT)


class Copy:
    """Rows that were read before: of a bundle, or of a FakeKernel."""

    def __init__(
        self, tables: Mapping[str, Mapping[bytes, bytes]], slots: bytes, rows: bytes
    ) -> None:
        self._tables, self._slots, self._rows = tables, slots, rows

    def vip(self, key: bytes) -> bytes | None:
        """A record by its packed key."""
        return self._tables[VIP].get(key)

    def cidr(self, addr: bytes) -> tuple[bytes, int] | None:
        """The longest prefix that covers an address."""
        config = self._tables[CONFIG].get(bytes(4))
        if config is None or not Config.unpack(config).cidrs:
            return None
        found = map(Cidr.unpack, self._tables[CIDR].values())
        return longest(addr, ((each.base, each.plen) for each in found))

    def slots(self, base: int, count: int) -> bytes:
        """Endpoint slots; fewer when the copy ends before."""
        return bytes(self._slots[base * SLOT_SIZE : (base + count) * SLOT_SIZE])

    def enrol(self, cookie: int) -> Enrol | None:
        """The row of a namespace."""
        key = cookie.to_bytes(8, "little")
        raw = self._tables[ENROL].get(key)
        return None if raw is None else decode_enrol(key, raw)

    def admit(self, cookie: int, attempt: Attempt) -> tuple[Reason, int]:
        """The decision of the program that guards a namespace. Raises BpfError."""
        tables = {name: self._tables[name] for name in GUARDING}
        links = {cookie.to_bytes(8, "little"): b""}
        return decided({**tables, LINK: links}, self._rows, cookie, attempt)


class Live:
    """The pinned maps; to be asked between two batches of the writer, which may replace them."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def vip(self, key: bytes) -> bytes | None:
        """A record by its packed key."""
        return Map(self._plane, VIP).get(key)

    def cidr(self, addr: bytes) -> tuple[bytes, int] | None:
        """The longest prefix that covers an address; the trie itself knows it."""
        config = Map(self._plane, CONFIG).get(bytes(4))
        if config is None or not Config.unpack(config).cidrs:
            return None
        raw = lib.lookup(self._plane.maps[CIDR], CidrKey(128, addr).pack(), CIDR_SIZE)
        if raw is None:
            return None
        found = Cidr.unpack(raw)
        return found.base, found.plen

    def slots(self, base: int, count: int) -> bytes:
        """Endpoint slots."""
        whole = memory(self._plane.maps[SLOT])
        return bytes(whole[base * SLOT_SIZE : (base + count) * SLOT_SIZE])

    def enrol(self, cookie: int) -> Enrol | None:
        """The row of a namespace."""
        key = cookie.to_bytes(8, "little")
        raw = Map(self._plane, ENROL).get(key)
        return None if raw is None else decode_enrol(key, raw)

    def admit(self, cookie: int, attempt: Attempt) -> tuple[Reason, int]:
        """The decision of the program that guards a namespace. Raises BpfError."""
        tables = cast("Tables", {name: Map(self._plane, name) for name in GUARDING})
        tables[LINK] = {cookie.to_bytes(8, "little"): b""}
        rows = memory(self._plane.maps[ROW])
        return decided(tables, cast("bytes", rows), cookie, attempt)


class Map:
    """A map as far as a dictionary is asked."""

    def __init__(self, plane: DataPlane, name: str) -> None:
        self._fd = plane.maps[name]
        self._size = lib.map_info(self._fd).value_size

    def get(self, key: bytes) -> bytes | None:
        """A value, None when there is none."""
        return lib.lookup(self._fd, key, self._size)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every row."""
        yield from lib.walk(self._fd)

    def values(self) -> Iterator[bytes]:
        """Every value."""
        return (value for _, value in self.items())


def decided(
    tables: Mapping[str, Mapping[bytes, bytes]], rows: bytes, cookie: int, attempt: Attempt
) -> tuple[Reason, int]:
    """Ask the guard's rules; a damaged row is a BpfError."""
    try:
        found = admit(cast("Tables", tables), rows, cookie, attempt)
    except AssertionError as error:
        raise BpfError(f"a row of the kernel's tables is damaged: {error}") from error
    return found.reason, found.policy
