"""Where endpoint sets lie in the slot array: a buddy allocator whose freed blocks rest first.

A program that read a record just before it was replaced may still read the old slots, so a freed
segment is not handed out again before ``rest`` seconds have passed.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Full(Exception):
    """A table must grow before this can be done: ``need`` rows or slots in all."""

    def __init__(self, table: str, need: int) -> None:
        super().__init__(f"{table} is full: {need} needed")
        self.table = table
        self.need = need


class SegmentStatistics(NamedTuple):
    """Slots in all, in use (with rounding), and resting."""

    capacity: int
    used: int
    resting: int


def order(count: int) -> int:
    """Size class of ``count`` slots: the power of two that holds them."""
    return max(count - 1, 0).bit_length()


class Segments:
    """Blocks of ``2**order`` slots, aligned to their size. ``capacity`` is rounded down to a
    power of two; times are seconds of any monotonic clock."""

    def __init__(self, capacity: int, rest: float = 2.0, table: str = "km_slot") -> None:
        self._table = table
        self._top = capacity.bit_length() - 1
        self._rest = rest
        self._free: list[set[int]] = [set() for _ in range(self._top + 1)]
        self._free[self._top].add(0)
        self._resting: deque[tuple[float, int, int]] = deque()
        self._used = self._rested = 0

    @property
    def capacity(self) -> int:
        """Slots in all."""
        return 1 << self._top

    def take(self, count: int) -> int:
        """First slot of a block for ``count`` slots; raises Full when there is none."""
        wanted = level = order(count)
        free = self._free
        while level <= self._top:
            if free[level]:
                base = free[level].pop()
                while level > wanted:
                    level -= 1
                    free[level].add(base + (1 << level))
                self._used += 1 << wanted
                return base
            level += 1
        raise Full(self._table, max(2 * self.capacity, 2 << wanted))

    def reserve(self, base: int, count: int) -> bool:
        """Take over the block of a segment found in the kernel; False when it is not free."""
        wanted = order(count)
        if base % (1 << wanted):
            return False
        for level in range(wanted, self._top + 1):
            start = base >> level << level
            if start in self._free[level]:
                self._free[level].remove(start)
                while level > wanted:
                    level -= 1
                    half = start + (1 << level)
                    self._free[level].add(start if base >= half else half)
                    start = half if base >= half else start
                self._used += 1 << wanted
                return True
        return False

    def release(self, base: int, count: int, now: float) -> None:
        """Give a block back; it rests until ``now + rest``."""
        self._resting.append((now + self._rest, base, order(count)))
        self._rested += 1 << order(count)

    def wake(self, now: float) -> None:
        """Make blocks that have rested long enough free again: a tenth of the time while less
        than an eighth of the table is free, for to grow takes the writer half a second."""
        while self._resting:
            short = self._used > self.capacity * 7 // 8
            if self._resting[0][0] > now + (0.9 * self._rest if short else 0.0):
                return
            _, base, level = self._resting.popleft()
            self._used -= 1 << level
            self._rested -= 1 << level
            while level < self._top and (base ^ (1 << level)) in self._free[level]:
                self._free[level].remove(base ^ (1 << level))
                base &= ~(1 << level)
                level += 1
            self._free[level].add(base)

    def grow(self, capacity: int) -> None:
        """Add room at the end; smaller or equal capacities change nothing."""
        while 1 << (self._top + 1) <= capacity:
            whole = 1 << self._top
            self._free.append(set())
            if self._free[self._top]:
                self._free[self._top].clear()
                self._free[self._top + 1].add(0)
            else:
                self._free[self._top].add(whole)
            self._top += 1

    def statistics(self) -> SegmentStatistics:
        """Fill of the slot array."""
        return SegmentStatistics(self.capacity, self._used, self._rested)
