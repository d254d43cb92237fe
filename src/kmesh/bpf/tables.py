"""The pinned maps, written and read. Knows how a row is written, never why."""

from __future__ import annotations

import mmap
from errno import E2BIG, ENOSPC
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from kmesh.abi.layout import HOOKS, REASONS, SLOT_SIZE, Config, Hook, Reason
from kmesh.bpf import lib
from kmesh.core.commands import CIDR, CONFIG, ENROL, POD, VIP, Drop, Put, WriteSlots
from kmesh.core.tables import Found, Outcome
from kmesh.errors import BpfError, CapacityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kmesh.bpf.load import DataPlane
    from kmesh.core.commands import Op

SLOT, REASON = "km_slot", "km_reason"
LIMITS = {VIP: "--max-vips", CIDR: "--max-cidrs", ENROL: "--max-pods", POD: "--max-pods"}
Row = TypeVar("Row")


class KernelTables:
    """core.tables.Tables over the maps of a data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
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
        size = 8 * lib.possible_cpus()
        counts: dict[tuple[Hook, Reason], int] = {}
        for index in range(HOOKS * REASONS):
            raw = lib.lookup(self._plane.maps[REASON], index.to_bytes(4, "little"), size) or b""
            total = sum(int.from_bytes(raw[i : i + 8], "little") for i in range(0, size, 8))
            if total:
                counts[Hook(index // REASONS), Reason(index % REASONS)] = total
        return counts

    def _apply(
        self, kind: type, table: str, commands: Iterable[object]
    ) -> tuple[int, BpfError | None]:
        if kind is Put:
            rows = [(c.key, c.value) for c in commands if isinstance(c, Put)]
            if table == VIP:
                return lib.update_many(self._plane.maps[table], rows)
            return _each(lambda row: lib.update(self._plane.maps[table], *row), rows)
        if kind is Drop:
            keys = [c.key for c in commands if isinstance(c, Drop)]
            return _each(lambda key: lib.delete(self._plane.maps[table], key), keys)
        count = 0
        for command in commands:
            assert isinstance(command, WriteSlots)
            start = command.base * SLOT_SIZE
            self._slots[start : start + len(command.slots)] = command.slots
            count += 1
        return count, None

    def _map_slots(self) -> None:
        fd = self._plane.maps[SLOT]
        size = lib.map_info(fd).max_entries * SLOT_SIZE
        pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._mapping = mmap.mmap(fd, pages)
        self._slots = memoryview(self._mapping)[:size]


def _kind(op: Op) -> tuple[type, str]:
    command = op.command
    return type(command), "" if isinstance(command, WriteSlots) else command.table


def _each(call: Callable[[Row], None], rows: Sequence[Row]) -> tuple[int, BpfError | None]:
    for count, row in enumerate(rows):
        try:
            call(row)
        except BpfError as error:
            return count, error
    return len(rows), None
