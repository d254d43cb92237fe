"""Sweeps open connections and reads the kernel's counters, every few seconds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.lowlevel
import anyio.to_thread

from kmesh.abi.layout import Tally
from kmesh.bpf.traffic import TrafficReader
from kmesh.core.traffic import Growth
from kmesh.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kmesh.abi.layout import Traffic
    from kmesh.bpf.load import DataPlane
    from kmesh.core.traffic import Row

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds between looks where open connections are not swept


class TrafficTaskStatistics(NamedTuple):
    """Since start: ``sweeps`` of open connections and those that failed; of the kernel's
    counters: ``rows`` there are, ``evicted`` were pushed out by newer ones; ``unseen`` connections
    are not counted, for want of memory; ``crowded`` ones needed memory of their own."""

    sweeps: int
    failures: int
    rows: int
    evicted: int
    unseen: int
    crowded: int


class TrafficTask:
    """Tells every subscriber what the counters grew by. ``interval`` is the seconds between two
    sweeps; None sweeps never: then a connection's bytes count when it ends."""

    def __init__(self, plane: DataPlane, interval: float | None) -> None:
        self._plane, self._interval = plane, interval
        self._reader = TrafficReader(plane)
        self._growth = Growth()
        self._subscribers: list[Callable[[Sequence[Row]], None]] = []
        self._sweeps = self._failures = 0
        self._turn = anyio.Lock()

    def subscribe(self, tell: Callable[[Sequence[Row]], None]) -> None:
        """``tell`` is called with each slice of differences, on the loop."""
        self._subscribers.append(tell)

    @property
    def possible(self) -> bool:
        """Whether this kernel counts connections at all."""
        return "km_observe" in self._plane.programs

    async def run(self) -> None:
        """Look until cancelled."""
        while self.possible:
            if self._interval is not None and "km_sweep" in self._plane.programs:
                await self._sweep()
            await self.look()
            await anyio.sleep(self._interval or EVERY)
        await anyio.sleep_forever()

    async def look(self) -> None:
        """Read the counters now."""
        async with self._turn:
            made = self._reader.tallies()[Tally.ROWS]
            for some in self._reader.slices():
                grown = self._growth.add(some)
                for tell in self._subscribers if grown else ():
                    tell(grown)
                await anyio.lowlevel.checkpoint()
            self._growth.end(made)

    def current(self) -> list[tuple[bytes, Traffic]]:
        """Every row of the last look, by packed key."""
        return self._growth.current()

    def made(self) -> dict[str, int]:
        """As ``TrafficReader.made``."""
        return self._reader.made()

    def statistics(self) -> TrafficTaskStatistics:
        """For metrics and dumps."""
        found = self._reader.tallies()
        return TrafficTaskStatistics(
            self._sweeps, self._failures, *self._growth.statistics(),
            found[Tally.UNSEEN], found[Tally.CROWDED],
        )  # fmt: skip

    async def _sweep(self) -> None:
        self._sweeps += 1
        try:
            await anyio.to_thread.run_sync(self._plane.sweep)
        except BpfError as error:
            self._failures += 1
            log.warning("cannot sweep open connections: %s", error)
