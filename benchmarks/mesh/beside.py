"""Every slice of a contender between two slices of direct: the order, and what is compared.

A slice and those beside it are a fraction of a second apart, so whatever changes more slowly (clock
rates, what else the machine does) is in all three. What is compared is a slice with the mean of its
neighbours, which takes a drift out as well.
"""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks._goals import PROXIES
from benchmarks._turns import Cell, Turn, kept, row

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

DIRECT, AGAIN, OURS = "direct", "direct 2", "kmesh"
FIELDS = ("rate", "cpu_us")


class Slice(NamedTuple):
    """One slice; no cell when it failed. ``others`` are CPU seconds of somebody else."""

    cell: Cell | None
    seconds: float
    others: float


class Seen(NamedTuple):
    """A slice of a way that can be compared; its turn has direct, too, as it was beside it."""

    way: str
    cycle: int
    turn: Turn


def order(names: Sequence[str], cycles: int, dice: random.Random) -> Iterator[tuple[int, str]]:
    """(cycle, contender) of slice after slice: everybody in each cycle, as the dice say."""
    for cycle in range(cycles):
        for name in dice.sample(names, len(names)):
            yield cycle, name


def between(ways: Iterator[tuple[int, str]], measure: Callable[[str], Slice]) -> Iterator[Seen]:
    """Slices of the ways and, before and after each, of direct. What failed is left out."""
    before = measure(DIRECT)
    yield from _seen(DIRECT, 0, [before])
    for cycle, name in ways:
        one, after = measure(name), measure(DIRECT)
        yield from _seen(name, cycle, [before, one, after])
        yield from _seen(DIRECT, cycle, [after])
        before = after


def _seen(way: str, cycle: int, slices: Sequence[Slice]) -> Iterator[Seen]:
    cells = [one.cell for one in slices if one.cell is not None]
    if len(cells) < len(slices):
        return
    others = sum(one.others for one in slices) / sum(one.seconds for one in slices)
    beside = {DIRECT: mean(cells[::2])}
    mine = cells[len(cells) // 2]
    yield Seen(way, cycle, Turn(beside | {way: mine}, others))


def mean(cells: Sequence[Cell]) -> Cell:
    """The means of numbers that all have."""
    numbers = {name: statistics.fmean(one.numbers[name] for one in cells)
               for name in cells[0].numbers}  # fmt: skip
    return Cell(numbers, Counter())


def rows(seen: Sequence[Seen], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One row for each contender that was seen; ours and direct's also have what they are of each
    proxy's (``against``)."""
    for name in names:
        turns = [one.turn for one in seen if one.way == name]
        if not turns:
            continue
        found = row(kept(turns), name, DIRECT)
        if name in (DIRECT, OURS):
            there = [proxy for proxy in PROXIES if any(one.way == proxy for one in seen)]
            found["against"] = {proxy: against(seen, name, proxy) for proxy in there}
        yield found


def against(seen: Sequence[Seen], way: str, proxy: str) -> dict[str, Any]:
    """The ratios of two ways in the cycles in which both took part, each to direct first."""
    mine, theirs = ({one.cycle: one.turn for one in seen if one.way == name}
                    for name in (way, proxy))  # fmt: skip
    pairs = [
        Turn({way: _to_direct(mine[cycle], way), proxy: _to_direct(theirs[cycle], proxy)},
             max(mine[cycle].others, theirs[cycle].others))
        for cycle in mine.keys() & theirs.keys()
    ]  # fmt: skip
    found = row(kept(pairs), way, proxy)
    return {f"{field}_ratio": found[f"{field}_ratio"] for field in FIELDS}


def _to_direct(turn: Turn, name: str) -> Cell:
    mine, base = turn.cells[name].numbers, turn.cells[DIRECT].numbers
    return Cell({field: mine[field] / base[field] for field in FIELDS}, Counter())
