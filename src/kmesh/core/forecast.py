"""When a table will be full if it goes on growing as it did."""

from __future__ import annotations

from collections import deque
from math import inf

SPAN = 3600.0
STEP = 60.0


class Forecast:
    """Least squares over the fill of the last hour, a sample a minute at most."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, now: float, entries: int) -> None:
        """Remember how full it is; ``now`` in seconds of any clock."""
        samples = self._samples
        if samples and now - samples[-1][0] < STEP:
            return
        samples.append((now, entries))
        while now - samples[0][0] > SPAN:
            samples.popleft()

    def full_in(self, limit: int) -> float:
        """Seconds until ``limit`` entries, from the last sample on; infinite without growth, 0
        when it is full."""
        samples = self._samples
        if not samples:
            return inf
        left = limit - samples[-1][1]
        if left <= 0:
            return 0.0
        count = len(samples)
        mean_time = sum(time for time, _ in samples) / count
        mean = sum(entries for _, entries in samples) / count
        spread = sum((time - mean_time) ** 2 for time, _ in samples)
        if spread == 0:
            return inf
        slope = sum((time - mean_time) * (entries - mean) for time, entries in samples) / spread
        return left / slope if slope > 0 else inf
