"""Counters of connections as they grow: from what the kernel holds to what is new in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Traffic, TrafficKey

if TYPE_CHECKING:
    from collections.abc import Iterable

Row = tuple[TrafficKey, Traffic]
"""The key of some traffic, and its counters summed over CPUs."""

NOTHING = Traffic(*(0 for _ in Traffic._fields))


def difference(now: Traffic, before: Traffic) -> Traffic:
    """What was added; ``since`` stays."""
    added = Traffic(*(a - b for a, b in zip(now, before, strict=True)))
    return added._replace(since=now.since)


class TrafficStatistics(NamedTuple):
    """``rows`` there were at the last look; ``evicted`` were pushed out by newer ones since start,
    with what they had counted since the look before."""

    rows: int
    evicted: int


class Growth:
    """What each look at the rows adds to the one before. At the first look that is everything:
    the kernel has counted on while there was no agent."""

    def __init__(self) -> None:
        self._known: dict[bytes, Traffic] = {}
        self._seen: dict[bytes, Traffic] = {}
        self._evicted = 0

    def add(self, rows: Iterable[tuple[bytes, Traffic]]) -> list[Row]:
        """Some rows of a look, by packed key; those that grew, with by how much."""
        grown = []
        for key, now in rows:
            before = self._known.get(key, NOTHING)
            if before.since != now.since:
                before = NOTHING
            self._seen[key] = now
            if now != before:
                grown.append((TrafficKey.unpack(key), difference(now, before)))
        return grown

    def end(self, made: int) -> None:
        """The look is over; ``made`` rows there had ever been before it began: one that is made
        meanwhile has pushed nobody out."""
        self._known, self._seen = self._seen, {}
        self._evicted = max(self._evicted, made - len(self._known))

    def current(self) -> list[tuple[bytes, Traffic]]:
        """All rows of the last look, by packed key."""
        return list(self._known.items())

    def statistics(self) -> TrafficStatistics:
        """For metrics and dumps."""
        return TrafficStatistics(len(self._known), self._evicted)
