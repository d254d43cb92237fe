"""How long the event loop was held up: a timer that notices when it wakes late."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

INTERVAL = 0.004  # seconds; what was computed in it before a stall is counted with that
IDLE = 0.32  # while nothing is computed: to look costs more than all the rest of an idle agent
BUSY = 0.05  # share of the time
LONG = 0.01


class LagStatistics(NamedTuple):
    """Seconds: the longest stall ever and since the last question, and how many over 10 ms.

    ``longest_cpu`` and ``recent_cpu`` count only what this thread itself computed meanwhile: on a
    busy machine a loop is also late because it did not get the CPU.
    """

    longest: float
    recent: float
    over_10ms: int
    longest_cpu: float
    recent_cpu: float


class Lag:
    """Runs beside the other tasks of the loop."""

    def __init__(self) -> None:
        self._longest = self._longest_cpu = 0.0
        self._recent: dict[str, tuple[float, float]] = {}
        self._over = 0

    async def run(self) -> None:
        """Measure until cancelled. A loop that has been idle is looked at less often: its first
        stall may then show shorter than it was, by IDLE at most."""
        clock, interval = asyncio.get_running_loop().time, INTERVAL
        while True:
            due, spent = clock() + interval, time.thread_time()
            await asyncio.sleep(interval)
            cpu = time.thread_time() - spent
            self._note(clock() - due, cpu)
            interval = INTERVAL if cpu > BUSY * interval else min(2 * interval, IDLE)

    def _note(self, late: float, cpu: float) -> None:
        own = min(late, cpu)
        self._longest = max(self._longest, late)
        self._longest_cpu = max(self._longest_cpu, own)
        for asker, (recent, recent_cpu) in self._recent.items():
            self._recent[asker] = (max(recent, late), max(recent_cpu, own))
        self._over += late > LONG

    def statistics(self, asker: str = "") -> LagStatistics:
        """What was measured; asking starts a new ``recent`` for this asker alone."""
        recent, recent_cpu = self._recent.get(asker, (self._longest, self._longest_cpu))
        self._recent[asker] = (0.0, 0.0)
        return LagStatistics(self._longest, recent, self._over, self._longest_cpu, recent_cpu)
