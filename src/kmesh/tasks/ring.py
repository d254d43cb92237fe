"""Reads the kernel's records of connections and denials, a turn at a time."""

from __future__ import annotations

import logging
from asyncio import get_running_loop
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.lowlevel

from kmesh.abi.layout import EVENT_SIZE, Tally
from kmesh.bpf.ring import Ring
from kmesh.bpf.traffic import TrafficReader
from kmesh.core.records import batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.bpf.load import DataPlane
    from kmesh.core.records import Batch, Denial
    from kmesh.core.steer import Steering

log = logging.getLogger(__name__)

GATHER = 0.05  # seconds from the first record to reading: being woken for each costs ten times more
LEAST = 0.003  # seconds to gather where so many come that the ring would be full
EVERY = 5.0  # seconds; should the kernel ever wake nobody
KEPT = 256
TURN = 256  # records in one go
BUDGET = 0.004  # seconds of the loop in one turn


class Turn(NamedTuple):
    """Records that were read, and whether there are more."""

    records: int
    more: bool


class RingStatistics(NamedTuple):
    """Since start: ``records`` read; since the ring was made: ``lost`` because it was full."""

    records: int
    lost: int


async def keep_reading(ring: Ring, turn: Callable[[], Turn]) -> None:
    """Call ``turn`` until cancelled: a moment after the kernel says that there is something, and
    now and then. Others have the loop in between."""
    gather = GATHER
    while True:
        count, more = turn()
        while more:
            await anyio.lowlevel.checkpoint()
            again, more = turn()
            count += again
        gather = gathering(gather, count, ring.room)
        with anyio.move_on_after(EVERY):
            await _readable(ring.fd)
            await anyio.sleep(gather)


def gathering(before: float, records: int, room: int) -> float:
    """Seconds to gather the next time, when in ``before`` seconds so many came of which the ring
    has ``room`` for some: half when that was an eighth of it, else twice as long."""
    return max(before / 2, LEAST) if records > room / 8 else min(before * 2, GATHER)


async def _readable(fd: int) -> None:
    """Until the kernel wakes whoever reads this ring. It is watched only here: as long as there are
    records a watched ring would wake the loop for ever."""
    loop, wake = get_running_loop(), anyio.Event()

    def ready() -> None:
        wake.set()

    loop.add_reader(fd, ready)
    try:
        await wake.wait()
    finally:
        loop.remove_reader(fd)


class RingReader:
    """Tells every subscriber about records; logs denials, and keeps the last of them for dumps."""

    def __init__(self, plane: DataPlane, steering: Steering) -> None:
        self.last: deque[Denial] = deque(maxlen=KEPT)
        self._ring = Ring(plane.maps["km_events"], EVENT_SIZE, TURN)
        self._counters = TrafficReader(plane)
        self._steering = steering
        self._subscribers: list[Callable[[Batch], None]] = []
        self._records = 0

    def subscribe(self, tell: Callable[[Batch], None]) -> Callable[[], None]:
        """``tell`` is called with records in the kernel's order, on the loop; it must neither wait
        nor raise. What is returned ends the subscription."""
        self._subscribers.append(tell)
        return lambda: self._subscribers.remove(tell)

    async def run(self) -> None:
        """Read until cancelled: when the kernel says that a quarter is full, and now and then."""
        try:
            await keep_reading(self._ring, self._turn)
        finally:
            self._ring.close()

    def statistics(self) -> RingStatistics:
        """For metrics and dumps."""
        return RingStatistics(self._records, self._counters.tallies()[Tally.RECORDS_LOST])

    def _turn(self) -> Turn:
        """Read for a few milliseconds."""
        end, before = monotonic() + BUDGET, self._records
        while True:
            raw, more = self._ring.drain()
            found = batch(raw, self._steering)
            self._records += len(found)
            for each in found.denials.values():
                self._note(each)
            for tell in tuple(self._subscribers) if raw else ():
                tell(found)
            if not more or monotonic() >= end:
                return Turn(self._records - before, more)

    def _note(self, found: Denial) -> None:
        self.last.append(found)
        log.info(
            "%s %s %s (%s) -> %s (%s): %s%s%s",
            "would deny" if found.dry_run else "denied", found.protocol, found.source,
            found.source_workload or "unknown", found.destination,
            found.destination_workload or "unknown", found.reason,
            f" by {found.policy}" if found.policy else "",
            f", and {found.suppressed} more" if found.suppressed else "",
        )  # fmt: skip
