"""How long the event loop was held up: a timer that notices when it wakes late."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import anyio

INTERVAL = 0.01


class LagStatistics(NamedTuple):
    """Seconds: the longest stall ever and since the last question, and the number over 10 ms."""

    longest: float
    recent: float
    over_10ms: int


class Lag:
    """Runs beside the other tasks of the loop."""

    def __init__(self) -> None:
        self._longest = self._recent = 0.0
        self._over = 0

    async def run(self) -> None:
        """Measure until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + INTERVAL
            await anyio.sleep(INTERVAL)
            late = clock() - due
            self._recent = max(self._recent, late)
            self._longest = max(self._longest, late)
            self._over += late > 0.01

    def statistics(self) -> LagStatistics:
        """What was measured; asking starts a new ``recent``."""
        found = LagStatistics(self._longest, self._recent, self._over)
        self._recent = 0.0
        return found
