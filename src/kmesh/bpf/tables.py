"""The pinned maps, written and read. Knows how a row is written, never why."""

from __future__ import annotations

import os
from errno import E2BIG, ENOSPC
from itertools import groupby
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeVar

from kmesh.abi.layout import (
    CIDR_SIZE,
    REASONS,
    ROW_SIZE,
    SLOT_SIZE,
    Cidr,
    Config,
    Hook,
    Policy,
    Reason,
    Verdict,
)
from kmesh.bpf import lib, sieve
from kmesh.bpf.copies import memory
from kmesh.core.commands import (
    CIDR,
    CONFIG,
    ENROL,
    EXEMPT,
    GUARD,
    LINK,
    MATCH,
    NAME,
    OWN,
    PEER,
    POD,
    PREFIX,
    ROW,
    SLOT,
    VERDICT,
    VIP,
    Drop,
    Put,
    WriteRows,
    WriteSlots,
)  # fmt: skip
from kmesh.core.guard_rows import SET_BITS
from kmesh.core.registry import BATCHED, COUNTED, LIMITS, SEALED, TRIES, UNBATCHED
from kmesh.core.tables import Found, FoundGuards, Outcome, row_blocks
from kmesh.errors import BpfError, CapacityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kmesh.bpf.load import DataPlane
    from kmesh.core.commands import Op

REASON = "km_reason"
ENOTSUPP = 524  # the kernel's own, which errno does not know
Row = TypeVar("Row")


class KernelTables:
    """core.tables.Tables over the maps of a data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._sieve = memory(plane.maps[sieve.NAME])
        self._map_slots()

    def apply(self, ops: Sequence[Op]) -> Outcome:
        """Apply in order; neighbours of one kind share a system call."""
        done = 0
        for (kind, table), group in groupby(ops, key=_kind):
            commands = [op.command for op in group]
            try:
                count, error = self._apply(kind, table, commands)
            except BpfError as failed:
                count, error = 0, failed
            done += count
            if error is not None:
                return Outcome(done, self._named(table, error))
        return Outcome(done, None)

    def _named(self, table: str, error: BpfError) -> BpfError:
        """A full table by its name and option instead of its errno."""
        if error.errno not in (E2BIG, ENOSPC) or table not in LIMITS:
            return error
        most = lib.map_info(self._plane.maps[table]).max_entries
        sentence = f"{table} is full: {LIMITS[table]} is {most}"
        return BpfError(sentence, error.errno, CapacityError.next_step)

    def capacity(self) -> tuple[int, int]:
        """(records, slots) that fit now."""
        vips = lib.map_info(self._plane.maps[VIP]).max_entries
        return vips, lib.map_info(self._plane.maps[SLOT]).max_entries

    def grow(self, vips: int, slots: int) -> None:
        """Bigger km_vip and km_slot under the running programs."""
        self._plane.grow(vips, slots)
        self._map_slots()

    def release(self) -> None:
        """See DataPlane.release."""
        self._plane.release()

    def remember(self, cookie: int, netns: str) -> None:
        """Where to attach when the pod is to be guarded."""
        self._plane.guards.paths[cookie] = netns

    def row_capacity(self) -> int:
        """Words of km_row that fit now."""
        return lib.map_info(self._plane.maps[ROW]).max_entries

    def grow_rows(self, words: int) -> None:
        """A bigger km_row under the running programs."""
        self._plane.grow_rows(words)
        self._map_slots()

    def walk(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """The rows of a table but arrays; growing replaces maps, so this holds its own."""
        if table == LINK:
            guards, programs = self._plane.guards, self._plane.programs
            for cookie in guards.places():
                place = guards.leading(cookie, programs)
                if place is not None:
                    yield cookie.to_bytes(8, "little"), place
            return
        if table not in self._plane.maps:
            return
        fd = os.dup(self._plane.maps[table])
        try:
            yield from (lib.walk if table in UNBATCHED else lib.rows)(fd)
        finally:
            os.close(fd)

    def row(self, table: str, key: bytes, size: int = 0) -> bytes | None:
        """A row as it is now; a trie answers with a shorter prefix where there is none."""
        if table in (SLOT, ROW):
            array, width = (self._slots, SLOT_SIZE) if table == SLOT else (self._rows, ROW_SIZE)
            start = int.from_bytes(key, "little") * width
            return bytes(array[start : start + size])
        if table == LINK:
            cookie = int.from_bytes(key, "little")
            return self._plane.guards.leading(cookie, self._plane.programs)
        if table not in self._plane.maps:
            return None
        fd = self._plane.maps[table]
        value = lib.lookup(fd, key, lib.map_info(fd).row_size)
        if value is None or table not in TRIES:
            return value
        return value if exact(key, value, SET_BITS if table == PREFIX else 0) else None

    def sealed(self, keys: list[bytes], values: list[bytes]) -> bytes:
        """See Tables."""
        return bytes(lib.seal(keys, values))

    def scan_guards(self) -> FoundGuards:
        """Everything of authorization, decoded no further than bytes."""
        maps = self._plane.maps
        guards = dict(lib.rows(maps[GUARD]))
        rules = [(PREFIX, *row) for row in lib.walk(maps[PREFIX])]
        rules += [(MATCH, *row) for row in lib.rows(maps[MATCH])]
        names = {
            int.from_bytes(key, "little"): Policy.unpack(value).name.rstrip(b"\0").decode()
            for key, value in lib.rows(maps[NAME])
        }
        return FoundGuards(
            guards, [(table, key) for table, key, _ in rules], dict(lib.rows(maps[PEER])), names,
            [key for key, _ in lib.walk(maps[EXEMPT])], self._plane.guards.places(),
            dict(lib.rows(maps[OWN])) if OWN in maps else {}, row_blocks(guards.values(), rules),
        )  # fmt: skip

    def scan(self) -> Found:
        """Everything, decoded no further than bytes."""
        maps = self._plane.maps
        return Found(
            dict(lib.rows(maps[VIP])),
            dict(lib.walk(maps[CIDR])),
            dict(lib.rows(maps[ENROL])),
            dict(lib.rows(maps[POD])),
            bytes(self._slots),
            lib.lookup(maps[CONFIG], bytes(4), len(Config(0, 0, 0).pack())) or b"",
        )

    def reasons(self) -> dict[tuple[Hook, Reason], int]:
        """How often each program ended for each reason, over all CPUs; zeros left out."""
        fd, counters = self._plane.maps[REASON], Struct(f"<{lib.possible_cpus()}Q")
        counts: dict[tuple[Hook, Reason], int] = {}
        try:
            found = list(lib.rows(fd, zeros=False))
        except BpfError as error:  # arrays of every CPU have no batches before Linux 5.13
            if error.errno != ENOTSUPP:
                raise
            found = list(lib.walk(fd))
        for key, raw in found:
            total = sum(counters.unpack(raw))
            if total:
                hook, reason = divmod(int.from_bytes(key, "little"), REASONS)
                counts[Hook(hook), Reason(reason)] = total
        return counts

    def verdicts(self) -> dict[tuple[int, Verdict], int]:
        """How often each policy (0: none) decided how, over all CPUs; zeros left out."""
        counts: dict[tuple[int, Verdict], int] = {}
        for key, raw in lib.rows(self._plane.maps[VERDICT], zeros=False):
            total = sum(int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8))
            verdict = Verdict(int.from_bytes(key[4:], "little"))
            counts[int.from_bytes(key[:4], "little"), verdict] = total
        return counts

    def _apply(
        self, kind: type, table: str, commands: Iterable[Any]
    ) -> tuple[int, BpfError | None]:
        if kind is Put:
            rows = [command[1:] for command in commands]
            if table == VIP:
                lib.mark(self._sieve, [key for key, _ in rows])
            if table in BATCHED:
                return lib.update_many(self._plane.maps[table], rows, sealed=table in SEALED)
            if table == LINK:
                return _each(self._guard, rows)
            if table in COUNTED:
                fd, nothing = self._plane.maps[table], bytes(8 * lib.possible_cpus())
                # A counter that is there already goes on counting.
                return _each(lambda row: lib.insert(fd, row[0], nothing), rows)
            return _each(lambda row: lib.update(self._plane.maps[table], *row), rows)
        if kind is Drop:
            keys = [command[1] for command in commands]
            guards = self._plane.guards
            if table == LINK:
                return _each(lambda key: guards.detach(int.from_bytes(key, "little")), keys)
            return _each(lambda key: lib.delete(self._plane.maps[table], key), keys)
        count = 0
        for command in commands:
            if type(command) is WriteRows:
                start = command.base * ROW_SIZE
                self._rows[start : start + len(command.rows)] = command.rows
            else:
                lib.put_slots(self._slots, command.base, command.slots, command.gen)
            count += 1
        return count, None

    def _guard(self, row: tuple[bytes, bytes]) -> None:
        cookie = int.from_bytes(row[0], "little")
        self._plane.guards.attach(cookie, row[1], self._plane.programs)

    def _map_slots(self) -> None:
        self._slots = memory(self._plane.maps[SLOT])
        self._rows = memory(self._plane.maps[ROW])


def exact(key: bytes, value: bytes, before: int) -> bool:
    """Whether the value that a trie gave belongs to this key: values begin with what they cover;
    ``before`` bits of a key come before the address."""
    covers = Cidr.unpack(value[:CIDR_SIZE])
    return key[-16:] == covers.base and int.from_bytes(key[:4], "little") == covers.plen + before


_WRITES: tuple[type, str] = (WriteSlots, "")


def _kind(op: Op) -> tuple[type, str]:
    command: Any = op.command
    kind = type(command)
    return (kind, command.table) if kind is Put or kind is Drop else _WRITES


def _each(call: Callable[[Row], None], rows: Sequence[Row]) -> tuple[int, BpfError | None]:
    for count, row in enumerate(rows):
        try:
            call(row)
        except BpfError as error:
            return count, error
    return len(rows), None
