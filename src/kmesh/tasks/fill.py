"""How full the kernel's maps are: counted in the kernel, not believed."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread

from kmesh.bpf import lib
from kmesh.core.forecast import Forecast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kmesh.bpf.load import DataPlane
    from kmesh.tasks.writer import Writer

LEAST_PAUSE = 5.0
REST = 200.0  # a count that took a second is followed by 200 without: half a percent of a core


class Fill(NamedTuple):
    """Entries of a map now, that fit now, and that will ever fit; ``full_in`` in seconds."""

    entries: int
    capacity: int
    limit: int
    full_in: float


class FillStatistics(NamedTuple):
    """By map; empty before the first count. ``evicted`` are rows that newer ones pushed out."""

    maps: Mapping[str, Fill]
    evicted: Mapping[str, int]
    counts: int
    seconds: float


class Filler:
    """Counts hash maps, LRU maps and tries in a thread; arrays are as full as the planner says.

    ``limits`` are the options' values for maps that grow by themselves, ``planned`` the entries in
    use of arrays, ``made`` how many rows of LRU maps there have ever been that the programs did not
    drop themselves: those that are not there any more were evicted.
    """

    def __init__(
        self,
        plane: DataPlane,
        writer: Writer,
        limits: Mapping[str, int],
        planned: Callable[[], Mapping[str, int]],
        made: Callable[[], Mapping[str, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plane, self._writer, self._clock = plane, writer, clock
        self._limits, self._planned, self._made = limits, planned, made
        self._evicted: dict[str, int] = {}
        self._forecasts: dict[str, Forecast] = {}
        self._fills: dict[str, Fill] = {}
        self._counts = 0
        self._seconds = 0.0
        self._thread = anyio.CapacityLimiter(1)

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            began = self._clock()
            await self.count()
            self._seconds = self._clock() - began
            await anyio.sleep(max(LEAST_PAUSE, REST * self._seconds))

    async def count(self) -> None:
        """Look at every map once. Raises BpfError."""
        # Growing replaces maps under us: what is counted is our own descriptor.
        fds = await self._writer.ask(self._copies)
        made = self._made()  # before the count: what comes meanwhile must not look evicted
        try:
            found = await anyio.to_thread.run_sync(count_all, fds, limiter=self._thread)
        finally:
            for fd in fds.values():
                os.close(fd)
        planned, now = self._planned(), self._clock()
        for name, (entries, capacity) in found.items():
            forecast = self._forecasts.setdefault(name, Forecast())
            used = planned.get(name) if entries is None else entries
            if used is None:
                continue
            forecast.note(now, used)
            limit = max(self._limits.get(name, capacity), capacity)
            self._fills[name] = Fill(used, capacity, limit, forecast.full_in(limit))
        for name, rows in made.items():
            gone = rows - self._fills[name].entries if name in self._fills else 0
            self._evicted[name] = max(self._evicted.get(name, 0), gone)
        self._counts += 1

    def statistics(self) -> FillStatistics:
        """For metrics and dumps."""
        return FillStatistics(dict(self._fills), dict(self._evicted), self._counts, self._seconds)

    def _copies(self) -> dict[str, int]:
        return {name: os.dup(fd) for name, fd in self._plane.maps.items()}


def count_all(fds: Mapping[str, int]) -> dict[str, tuple[int | None, int]]:
    """(entries, capacity) by name; entries are None where the kernel cannot be asked."""
    return {name: (lib.count(fd), lib.map_info(fd).max_entries) for name, fd in fds.items()}
