"""What is planned against what lies in the kernel: the one comparison, for audits and for dumps.

A table is looked at in slices, between two batches of the writer, so that what is planned does not
change under a comparison. A row that differs is told to the planner as it really is; the planner
then plans it again, and its law holds for the repair as for any change.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kmesh.abi.layout import SLOT_SIZE
from kmesh.core.commands import LINK
from kmesh.core.mirror import row, stamp
from kmesh.core.registry import ARRAYS, TRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kmesh.core.mirror import Realised

SLICE = 256
LINKS = 16  # each is a question to the kernel's list of links
BYTES = 1 << 18  # of an array in one slice


class Kind(StrEnum):
    """How a row is not as it was planned."""

    MISSING = "missing"
    UNPLANNED = "unplanned"
    ALTERED = "altered"


class Picture(NamedTuple):
    """One table as the planner believes that it lies in the kernel.

    ``keys`` are the rows that it believes in when it is called, ``planned`` gives the bytes of one
    (None: no row), ``found`` is told what really lies there. While ``settled`` is False the planner
    does not know itself. Of a table that ``counts`` only the presence of a row is planned.
    ``unsealed`` is ``planned`` without check words: many are sealed at once in a tenth of the time.
    """

    table: str
    keys: Callable[[], Iterable[bytes]]
    planned: Callable[[bytes], bytes | None]
    found: Callable[[bytes, bytes | None, float], None]
    settled: Callable[[], bool] = lambda: True
    counts: bool = False
    unsealed: Callable[[bytes], bytes | None] | None = None


class Difference(NamedTuple):
    """One row that is not as planned."""

    table: str
    key: bytes
    kind: Kind


def compare(planned: bytes | None, value: bytes | None) -> Kind | None:
    """How a row differs from what was planned; None when it does not."""
    if planned == value:
        return None
    if value is None:
        return Kind.MISSING
    return Kind.UNPLANNED if planned is None else Kind.ALTERED


def compare_record(
    key: bytes, value: bytes | None, slots: bytes | memoryview, planned: Realised | None
) -> Kind | None:
    """As ``compare`` for a record of km_vip together with its segment of km_slot."""
    found = compare(None if planned is None else row(key, planned), value)
    if found is None and planned is not None and planned.segment is not None:
        wanted, start = stamp(planned.segment), planned.segment.base * SLOT_SIZE
        if bytes(slots[start : start + len(wanted)]) != wanted:
            return Kind.ALTERED
    return found


class Readable(Protocol):
    """The part of Tables that a comparison needs."""

    def walk(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """See Tables."""

    def row(self, table: str, key: bytes, size: int = 0) -> bytes | None:
        """See Tables."""


class Sweep:
    """One pass through a table: first what lies there, then what should. ``sealed`` is that of
    Tables, by which many rows are compared at once."""

    def __init__(
        self,
        picture: Picture,
        tables: Readable,
        sealed: Callable[[list[bytes], list[bytes]], bytes] | None = None,
    ) -> None:
        self._picture, self._tables, self._sealed = picture, tables, sealed
        self._array, self._trie = picture.table in ARRAYS, picture.table in TRIES
        self._rows = iter(()) if self._array else tables.walk(picture.table)
        self._keys: Iterator[bytes] = iter(())
        self._walked = False
        self._right: set[bytes] = set()
        self._wrong: dict[bytes, bytes] = {}
        self._most = LINKS if picture.table == LINK else SLICE

    def step(self) -> tuple[int, list[Difference]] | None:
        """(rows looked at for the first time, differences) of the next slice; None after the
        last."""
        if not self._walked:
            some = list(islice(self._rows, self._most))
            if some:
                return len(some), self._walk(some)
            self._walked, self._keys = True, iter(self._picture.keys())
        return self._entries() if self._array else self._absent()

    def still(self, difference: Difference) -> bool:
        """Whether a row still differs."""
        return self._kind(difference.key, self._read(difference.key)) is not None

    def tell(self, difference: Difference, now: float) -> None:
        """Let the planner know, who plans the row again if it still differs; ``now`` is of the
        writer's clock. Later than the sweeps: until then the planner is settled."""
        key = difference.key
        value = self._wrong.get(key) if self._trie else None
        value = self._read(key) if value is None else value
        if self._kind(key, value) is not None:
            self._picture.found(key, value, now)

    def _walk(self, rows: list[tuple[bytes, bytes]]) -> list[Difference]:
        if self._alike(rows):
            self._right.update([key for key, _ in rows])
            return []
        found = []
        for key, value in rows:
            kind = self._kind(key, value)
            if kind is not None and not self._trie:
                # The walk reads ahead: the row may have been replaced since.
                kind = self._kind(key, self._read(key))
            if kind is None:
                self._right.add(key)
            else:
                self._wrong[key] = value
                found.append(Difference(self._picture.table, key, kind))
        return found

    def _alike(self, rows: list[tuple[bytes, bytes]]) -> bool:
        """Whether all of them are as planned, found out at once; False where that cannot be."""
        unsealed = self._picture.unsealed
        if unsealed is None or self._sealed is None:
            return False
        planned = [value for key, _ in rows if (value := unsealed(key)) is not None]
        if len(planned) < len(rows):
            return False
        sealed = self._sealed([key for key, _ in rows], planned)
        return sealed == b"".join([value for _, value in rows])

    def _absent(self) -> tuple[int, list[Difference]] | None:
        """Of the next keys those that the walk has not met."""
        keys = list(islice(self._keys, SLICE))
        if not keys:
            return None
        unmet = [key for key in keys if key not in self._right and key not in self._wrong]
        found = [
            Difference(self._picture.table, key, kind)
            for key in unmet
            if (kind := self._kind(key, self._read(key))) is not None
        ]
        return sum(each.kind is Kind.MISSING for each in found), found

    def _entries(self) -> tuple[int, list[Difference]] | None:
        """The next of an array, each read and planned once."""
        looked, size, found = 0, 0, []
        for key in self._keys:
            looked += 1
            planned = self._picture.planned(key)
            if planned:
                size += len(planned)
                if self._tables.row(self._picture.table, key, len(planned)) != planned:
                    found.append(Difference(self._picture.table, key, Kind.ALTERED))
            if looked == SLICE or size >= BYTES:
                break
        return (looked, found) if looked else None

    def _read(self, key: bytes) -> bytes | None:
        size = len(self._picture.planned(key) or b"") if self._array else 0
        if self._array and not size:
            return None
        return self._tables.row(self._picture.table, key, size)

    def _kind(self, key: bytes, value: bytes | None) -> Kind | None:
        planned = self._picture.planned(key)
        if self._picture.counts and planned is not None and value is not None:
            return None
        return compare(planned, value)
