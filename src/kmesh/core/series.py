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
    """Rows by label values. Columns of one family are counted together or not at all."""

    def __init__(self, columns: Sequence[Column], most: int) -> None:
        self.columns, self._most = tuple(columns), most
        self._rows: OrderedDict[tuple[str, ...], Row] = OrderedDict()
        # Rows by the columns that they have: passing over those without would hold the loop up.
        self._with: list[dict[tuple[str, ...], Row]] = [{} for _ in self.columns]
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
                self._evict()
        else:
            self._rows.move_to_end(values)
        counts = row.counts
        for index, amount in enumerate(amounts):
            if amount is not None:
                before = counts[index]
                if before is None:
                    self._with[index][values] = row
                counts[index] = (before or 0) + amount

    def metrics(self) -> Iterator[Metric]:
        """A family after the other. Rows that come or go while this is read do not disturb it."""
        families: dict[Family, list[tuple[int, str]]] = {}
        for index, (family, suffix) in enumerate(self.columns):
            families.setdefault(family, []).append((index, suffix))
        for family, parts in families.items():
            yield Metric(family, self._samples(parts))

    def rows(self) -> Iterator[tuple[tuple[str, ...], list[float | None]]]:
        """(label values, counters) of every row, the least used first."""
        for values, row in list(self._rows.items()):
            yield values, row.counts

    def statistics(self) -> SeriesStatistics:
        """For metrics and dumps."""
        return SeriesStatistics(len(self._rows), self._most, self._evicted)

    def _samples(self, parts: list[tuple[int, str]]) -> Iterator[Sample]:
        for row in list(self._with[parts[0][0]].values()):
            for index, suffix in parts:
                yield Sample(row.labels, row.counts[index] or 0, suffix)

    def _evict(self) -> None:
        values, _ = self._rows.popitem(last=False)
        for rows in self._with:
            rows.pop(values, None)
        self._evicted += 1
