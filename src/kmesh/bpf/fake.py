"""The kernel's tables in memory, and the programs' decision in Python.

Fakes, for what cannot run everywhere: ``FakeKernel`` follows bpf_c/pick.h line by line, so that a
plan can be asked after each of its operations what a connection would meet, without root;
``FaultyTables`` fails a share of the calls. Neither is used by the daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi import layout
from kmesh.abi.check import seal, seal_last, stamp
from kmesh.abi.layout import SLOT_SIZE, Reason, VipAction, VipKey
from kmesh.bpf.fake_guard import Decision, admit
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
    VIP,
    Drop,
    Put,
    WriteRows,
    WriteSlots,
)  # fmt: skip
from kmesh.core.registry import MAPS, SEALED
from kmesh.core.tables import Found, FoundGuards, Outcome, row_blocks
from kmesh.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kmesh.core.commands import Op
    from kmesh.core.policy import Attempt

TRIES = 3
EXACT = 128


class FakeKernel:
    """Tables as dictionaries of bytes, with ``connect`` to ask them."""

    def __init__(self, vips: int = 1 << 16, slots: int = 1 << 16, rows: int = 1 << 16) -> None:
        self.tables: dict[str, dict[bytes, bytes]] = {name: {} for name in (*MAPS, LINK)}
        self.tables[CONFIG][bytes(4)] = bytes(16)
        self.rows = bytearray(8 * rows)
        self.slots = bytearray(slots * SLOT_SIZE)
        self.vips = vips

    def apply(self, ops: Sequence[Op]) -> Outcome:
        """Apply in order; never fails."""
        for op in ops:
            match op.command:
                case WriteSlots(base, slots, gen):
                    start = base * SLOT_SIZE
                    assert start + len(slots) <= len(self.slots), "beyond the slot array"
                    self.slots[start : start + len(slots)] = stamp(slots, gen)
                case WriteRows(base, rows):
                    assert 8 * base + len(rows) <= len(self.rows), "beyond the row array"
                    self.rows[8 * base : 8 * base + len(rows)] = rows
                case Put(table, key, value):
                    self.tables[table][key] = seal(key, value) if table in SEALED else value
                    assert len(self.tables[VIP]) <= self.vips, "beyond the VIP table"
                case Drop(table, key):
                    self.tables[table].pop(key, None)
        return Outcome(len(ops), None)

    def capacity(self) -> tuple[int, int]:
        """(records, slots) that fit."""
        return self.vips, len(self.slots) // SLOT_SIZE

    def grow(self, vips: int, slots: int) -> None:
        """More room, same contents."""
        self.vips = max(self.vips, vips)
        self.slots.extend(bytes(max(0, slots * SLOT_SIZE - len(self.slots))))

    def release(self) -> None:
        """Nothing was replaced."""

    def remember(self, cookie: int, netns: str) -> None:
        """Nothing to attach to."""

    def row_capacity(self) -> int:
        """Words that fit."""
        return len(self.rows) // 8

    def grow_rows(self, words: int) -> None:
        """More room, same contents."""
        self.rows.extend(bytes(max(0, 8 * words - len(self.rows))))

    def walk(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """The rows now."""
        return iter(list(self.tables[table].items()))

    def row(self, table: str, key: bytes, size: int = 0) -> bytes | None:
        """A row as it is now."""
        if table not in (SLOT, ROW):
            return self.tables[table].get(key)
        array, width = (self.slots, SLOT_SIZE) if table == SLOT else (self.rows, 8)
        start = int.from_bytes(key, "little") * width
        return bytes(array[start : start + size])

    def sealed(self, keys: list[bytes], values: list[bytes]) -> bytes:
        """See Tables."""
        return b"".join(map(seal, keys, values))

    def scan_guards(self) -> FoundGuards:
        """Everything of authorization."""
        t = self.tables
        rules = [(table, *row) for table in (PREFIX, MATCH) for row in t[table].items()]
        names = {
            int.from_bytes(key, "little"): value.rstrip(b"\0").decode()
            for key, value in t[NAME].items()
        }
        return FoundGuards(
            dict(t[GUARD]), [(table, key) for table, key, _ in rules], dict(t[PEER]), names,
            list(t[EXEMPT]), {int.from_bytes(k, "little"): place for k, place in t[LINK].items()},
            dict(t[OWN]), row_blocks(t[GUARD].values(), rules),
        )  # fmt: skip

    def admit(self, netns: int, attempt: Attempt) -> Decision:
        """What a connection meets that comes into a namespace (bpf/fake_guard.py)."""
        return admit(self.tables, self.rows, netns, attempt)

    def scan(self) -> Found:
        """Everything that is in the tables."""
        t = self.tables
        return Found(
            dict(t[VIP]),
            dict(t[CIDR]),
            dict(t[ENROL]),
            dict(t[POD]),
            bytes(self.slots),
            t[CONFIG][bytes(4)],
        )

    def connect(self, netns: int, addr: bytes, port: int, roll: int = 0) -> Decision:
        """What connect() meets; ``roll`` is the random 32-bit number."""
        enrolled = self.tables[ENROL].get(netns.to_bytes(8, "little"))
        if enrolled is None:
            return Decision(Reason.NOT_ENROLLED)
        if seal_last(netns.to_bytes(8, "little"), enrolled) != enrolled:
            return Decision(Reason.INCONSISTENT)
        return self.decide(addr, port, layout.Enrol.unpack(enrolled).view, roll)

    def decide(self, addr: bytes, port: int, view: int, roll: int) -> Decision:
        """km_decide() of pick.h."""
        record = self._find_record(addr, port, view)
        if record is None:
            return Decision(Reason.NOT_MESH)
        if record.action != VipAction.BALANCE:
            return Decision(Reason(record.reason))
        start = (record.base + (roll * record.slots >> 32)) * SLOT_SIZE
        slot = layout.Slot.unpack(bytes(self.slots[start : start + SLOT_SIZE]))
        if slot.gen != record.gen:
            return Decision(Reason.INCONSISTENT)
        target = record.port or slot.port
        return Decision(Reason.BALANCED, slot.addr, target, slot.workload, record.service)

    def endpoints(self, addr: bytes, port: int, view: int = 0) -> Decision | set[Decision]:
        """Every decision that some roll leads to; one Decision when nothing is balanced."""
        record = self._find_record(addr, port, view)
        if record is None or record.action != VipAction.BALANCE:
            return self.decide(addr, port, view, 0)
        rolls = ((i << 32) // record.slots + 1 for i in range(record.slots))
        return {self.decide(addr, port, view, roll) for roll in rolls}

    def _find_record(self, addr: bytes, port: int, view: int) -> layout.Vip | None:
        found = self._find_port(addr, EXACT, port)
        if found is None and layout.Config.unpack(self.tables[CONFIG][bytes(4)]).cidrs:
            cidr = self._longest(addr)
            if cidr is not None:
                addr = cidr.base
                found = self._find_port(addr, cidr.plen, port)
        if found is None:
            return None
        key, record = found
        if record.flags & 1 and view:
            own = self._find(key._replace(view=view))
            return own or record
        return record

    def _find_port(self, addr: bytes, plen: int, port: int) -> tuple[VipKey, layout.Vip] | None:
        for wanted in (port, 0):
            key = VipKey(addr, 0, wanted, plen, 0)
            found = self._find(key)
            if found is not None:
                return key, found
        return None

    def _find(self, key: VipKey) -> layout.Vip | None:
        packed = key.pack()
        value = self.tables[VIP].get(packed)
        if value is None:
            return None
        assert seal(packed, value) == value, "record with a wrong check word"
        return layout.Vip.unpack(value)

    def _longest(self, addr: bytes) -> layout.Cidr | None:
        number = int.from_bytes(addr, "big")
        best = None
        for value in self.tables[CIDR].values():
            cidr = layout.Cidr.unpack(value)
            shift = 128 - cidr.plen
            if number >> shift == int.from_bytes(cidr.base, "big") >> shift and (
                best is None or cidr.plen > best.plen
            ):
                best = cidr
        return best


class FaultyTables(FakeKernel):
    """A FakeKernel whose calls fail when ``fails(op number)`` says so; the prefix is applied."""

    def __init__(
        self, fails: Callable[[int], bool], vips: int = 1 << 16, slots: int = 1 << 16
    ) -> None:
        super().__init__(vips, slots)
        self._fails = fails
        self._calls = 0

    def apply(self, ops: Sequence[Op]) -> Outcome:
        """Apply until an operation fails."""
        for index, op in enumerate(ops):
            self._calls += 1
            if self._fails(self._calls):
                return Outcome(index, BpfError(f"injected fault at {op.command!r}", 12))
            super().apply([op])
        return Outcome(len(ops), None)
