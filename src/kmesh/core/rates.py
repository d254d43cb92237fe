"""Rates over cumulative counters, safe against counters that start again.

Times are seconds of any monotonic clock, counters are tuples of integers of one length. A counter
that fell was started again (its row was evicted, the kernel's table was made anew) and counts from
zero, the rule Prometheus has for ``rate``. The first sample is only the ground of the next one:
what was counted before nobody looked is in no rate.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

Counts = tuple[int, ...]
K = TypeVar("K", bound="Hashable")


class Window(NamedTuple, Generic[K]):
    """What was counted in ``seconds``; keys that counted nothing are left out. No ``seconds``
    (None): there are not two samples yet, nothing can be said."""

    seconds: float | None
    counted: dict[K, Counts]

    def per_second(self, key: K, column: int) -> float | None:
        """Rate of one column; 0 for a key that counted nothing, None without two samples."""
        if self.seconds is None:
            return None
        return self.counted[key][column] / self.seconds if key in self.counted else 0.0


class Sample(NamedTuple, Generic[K]):
    """Growth since the sample before."""

    time: float
    grown: dict[K, Counts]


class Rates(Generic[K]):
    """The last ``keep`` seconds of samples, at most ``most`` of them.

    A sample costs one pass over the rows; what is kept is only what changed.
    """

    def __init__(self, keep: float = 60.0, most: int = 120) -> None:
        self.keep, self.most = keep, most
        self._last: dict[K, Counts] = {}
        self._samples: deque[Sample[K]] = deque()

    def add(self, now: float, rows: Mapping[K, Counts] | Iterable[tuple[K, Counts]]) -> None:
        """Take a sample of every row there is. One that is not later than the last is ignored."""
        if not self._later(now):
            return
        rows = dict(rows)
        grown = _grown(self._last, rows)
        self._last = rows
        self.grow(now, grown)

    def grow(self, now: float, grown: Mapping[K, Counts]) -> None:
        """Take a sample that somebody else has made: what grew since the one before."""
        if not self._later(now):
            return
        if not self._samples or now - self._samples[-1].time > self.keep:
            self._samples.clear()
            grown = {}
        self._samples.append(Sample(now, dict(grown)))
        # One sample beyond the window is its ground.
        while len(self._samples) > self.most or self._samples[0].time < now - self.keep:
            self._samples.popleft()

    def _later(self, now: float) -> bool:
        return not self._samples or now > self._samples[-1].time

    def latest(self) -> float | None:
        """Time of the last sample."""
        return self._samples[-1].time if self._samples else None

    def over(self, window: float) -> Window[K]:
        """Growth over the last ``window`` seconds before the last sample: from the youngest sample
        that is at least so old, or else from the oldest; ``seconds`` is the time it covers."""
        if len(self._samples) < 2:
            return Window(None, {})
        end = self._samples[-1].time
        counted: dict[K, Counts] = {}
        ground = end
        samples = list(self._samples)
        for index in range(len(samples) - 1, 0, -1):
            _merge(counted, samples[index].grown)
            ground = samples[index - 1].time
            if end - ground >= window:
                break
        return Window(end - ground, counted)


def _grown(old: Mapping[K, Counts], new: Mapping[K, Counts]) -> dict[K, Counts]:
    grown = {}
    for key, counts in new.items():
        before = old.get(key)
        if before == counts:
            continue
        if before is None or any(b > c for b, c in zip(before, counts, strict=True)):
            before = (0,) * len(counts)
        if any(counts):
            grown[key] = tuple(c - b for b, c in zip(before, counts, strict=True))
    return grown


def _merge(into: dict[K, Counts], grown: Mapping[K, Counts]) -> None:
    for key, counts in grown.items():
        have = into.get(key)
        into[key] = counts if have is None else tuple(map(sum, zip(have, counts, strict=True)))
