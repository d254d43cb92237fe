"""Counters with many labels: a bounded number of label sets, the least used go first.

One row per label set holds all counters of a table, so that they can only be evicted together.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.exposition import Metric, Sample, label_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kmesh.core.exposition import Family


class Column(NamedTuple):
    """A counter of every row: its family, and the suffix of its samples if it is a part of one."""

    family: Family
    suffix: str = ""


class Row:
    """The counters of one label set (None: never counted), and its labels as text."""

    __slots__ = ("counts", "labels")

    def __init__(self, labels: str, columns: int) -> None:
        self.labels = labels
        self.counts: list[float | None] = [None] * columns


class SeriesStatistics(NamedTuple):
    """Label sets now and at most, and how many were evicted since the start."""

    rows: int
    most: int
    evicted: int


class Table:
    """Rows by label values. Columns of one family must be neighbours."""

    def __init__(self, columns: Sequence[Column], most: int) -> None:
        self.columns, self._most = tuple(columns), most
        self._rows: OrderedDict[tuple[str, ...], Row] = OrderedDict()
        self._evicted = 0

    def add(
        self, names: tuple[str, ...], values: tuple[str, ...], amounts: Sequence[float | None]
    ) -> None:
        """Add to the counters of a label set, in the order of the columns; None leaves a counter
        as it is, 0 makes it appear."""
        row = self._rows.get(values)
        if row is None:
            row = self._rows[values] = Row(label_text(names, values), len(self.columns))
            if len(self._rows) > self._most:
                self._rows.popitem(last=False)
                self._evicted += 1
        else:
            self._rows.move_to_end(values)
        counts = row.counts
        for index, amount in enumerate(amounts):
            if amount is not None:
                counts[index] = (counts[index] or 0) + amount

    def metrics(self) -> Iterator[Metric]:
        """A family after the other. Rows that come or go while this is read do not disturb it."""
        rows = list(self._rows.values())
        families: dict[Family, list[tuple[int, str]]] = {}
        for index, (family, suffix) in enumerate(self.columns):
            families.setdefault(family, []).append((index, suffix))
        for family, parts in families.items():
            yield Metric(family, _samples(rows, parts))

    def rows(self) -> Iterator[tuple[tuple[str, ...], list[float | None]]]:
        """(label values, counters) of every row, the least used first."""
        for values, row in list(self._rows.items()):
            yield values, row.counts

    def statistics(self) -> SeriesStatistics:
        """For metrics and dumps."""
        return SeriesStatistics(len(self._rows), self._most, self._evicted)


def _samples(rows: list[Row], parts: list[tuple[int, str]]) -> Iterator[Sample]:
    for row in rows:
        for index, suffix in parts:
            value = row.counts[index]
            if value is not None:
                yield Sample(row.labels, value, suffix)
