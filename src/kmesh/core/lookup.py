"""What connect() meets in the tables: the programs' look-up (bpf_c/pick.h), in Python.

One implementation for every layer: rows in the kernel, rows in a bundle, rows that are planned, and
rows that would be planned now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from kmesh.abi.check import seal
from kmesh.abi.layout import SLOT_SIZE, Enrol, Reason, Slot, Vip, VipAction, VipKey
from kmesh.core.render import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.core.policy import Attempt
    from kmesh.core.render import Target

EXACT = 128
T = TypeVar("T")
Endpoints = dict[tuple[bytes, int], int]
"""16-byte address and port of an endpoint to its weight in slots."""


class Kernel(Protocol):
    """The kernel's tables, or a copy of them."""

    def vip(self, key: bytes) -> bytes | None:
        """A record by its packed key."""

    def cidr(self, addr: bytes) -> tuple[bytes, int] | None:
        """The longest prefix that covers an address; None also while CIDRs are switched off."""

    def slots(self, base: int, count: int) -> bytes:
        """Endpoint slots."""

    def enrol(self, cookie: int) -> Enrol | None:
        """The row of a namespace."""

    def admit(self, cookie: int, attempt: Attempt) -> tuple[Reason, int]:
        """(reason, id of the deciding policy or 0) for a connection that comes into a
        namespace."""


class Outcome(NamedTuple):
    """What a client meets; ``port`` 0 of the key is the record of any other port."""

    action: str
    reason: Reason
    service: int = 0
    endpoints: Endpoints = {}  # noqa: RUF012 never changed

    def agrees(self, other: Outcome) -> bool:
        """Whether a client cannot tell them apart. Weights are compared as shares."""
        same = (self.action, self.reason) == (other.action, other.reason)
        return same and shares(self.endpoints) == shares(other.endpoints)


NOT_MESH = Outcome("pass", Reason.NOT_MESH)


def find(
    get: Callable[[bytes], T | None],
    flags: Callable[[T], int],
    cidr: Callable[[bytes], tuple[bytes, int] | None],
    addr: bytes,
    port: int,
    view: int,
) -> tuple[VipKey, T] | None:
    """The record for an address of 16 bytes, a port and a client's view; None when there is none.

    An exact VIP comes first, then the longest prefix; of each the port, then any other port; a
    record that says that views differ gives way to the client's own.
    """
    found = _at(get, addr, EXACT, port)
    if found is None:
        covering = cidr(addr)
        if covering is not None:
            found = _at(get, covering[0], covering[1], port)
    if found is None:
        return None
    key, row = found
    if view and flags(row) & VIEWS:
        own = key._replace(view=view)
        mine = get(own.pack())
        if mine is not None:
            return own, mine
    return found


def in_kernel(kernel: Kernel, addr: bytes, port: int, view: int) -> Outcome:
    """What the programs do; a segment of another generation is INCONSISTENT, as there."""

    def get(key: bytes) -> Vip | None:
        raw = kernel.vip(key)
        if raw is None or seal(key, raw) == raw:
            return None if raw is None else Vip.unpack(raw)
        # The programs do not believe a record whose check word is wrong.
        row = Vip.unpack(bytes(len(raw)))
        return row._replace(action=VipAction.REFUSE, reason=Reason.INCONSISTENT)

    found = find(get, lambda row: row.flags, kernel.cidr, addr, port, view)
    if found is None:
        return NOT_MESH
    record = found[1]
    action, reason = VipAction(record.action), Reason(record.reason)
    if action is not VipAction.BALANCE:
        return Outcome(action.name.lower(), reason, record.service)
    raw = kernel.slots(record.base, record.slots)
    slots = [Slot.unpack(raw[at : at + SLOT_SIZE]) for at in range(0, len(raw), SLOT_SIZE)]
    if len(slots) != record.slots or any(slot.gen != record.gen for slot in slots):
        return Outcome("refuse", Reason.INCONSISTENT, record.service)
    return Outcome("balance", Reason.BALANCED, record.service, _weights(slots, record.port))


def in_rows(
    get: Callable[[bytes], Target | None],
    cidr: Callable[[bytes], tuple[bytes, int] | None],
    addr: bytes,
    port: int,
    view: int,
) -> Outcome:
    """What the programs would do with these rows."""
    found = find(get, lambda target: target.flags, cidr, addr, port, view)
    if found is None:
        return NOT_MESH
    target = found[1]
    raw = target.slots
    slots = [Slot.unpack(raw[at : at + SLOT_SIZE]) for at in range(0, len(raw), SLOT_SIZE)]
    endpoints = _weights(slots, target.port)
    return Outcome(target.action.name.lower(), target.reason, target.service, endpoints)


def shares(endpoints: Endpoints) -> dict[tuple[bytes, int], float]:
    """Weights as parts of the whole."""
    total = sum(endpoints.values())
    return {place: weight / total for place, weight in endpoints.items()}


def _at(
    get: Callable[[bytes], T | None], addr: bytes, plen: int, port: int
) -> tuple[VipKey, T] | None:
    for wanted in (port, 0):
        key = VipKey(addr, 0, wanted, plen, 0)
        row = get(key.pack())
        if row is not None:
            return key, row
    return None


def _weights(slots: list[Slot], port: int) -> Endpoints:
    found: Endpoints = {}
    for slot in slots:
        place = (slot.addr, port or slot.port)
        found[place] = found.get(place, 0) + 1
    return found
