"""Durations in buckets."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from kmesh.core.exposition import Sample, label_text, number

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Counts by upper bound; ``bounds`` ascend, what is above them all is counted beside them."""

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def note(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def samples(self) -> Iterator[Sample]:
        """Cumulative buckets, sum and count, as both formats want them."""
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            yield Sample(label_text(("le",), (number(bound),)), total, "_bucket")
        yield Sample("", self.sum, "_sum")
        yield Sample("", total, "_count")
