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
from kmesh.core.commands import CIDR, EXEMPT, PREFIX, ROW, SLOT
from kmesh.core.mirror import row, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kmesh.core.mirror import Realised

ARRAYS = (SLOT, ROW)
TRIES = (CIDR, PREFIX, EXEMPT)  # asked for one row, they may answer with a shorter prefix
SLICE = 256


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
    """

    table: str
    keys: Callable[[], Iterable[bytes]]
    planned: Callable[[bytes], bytes | None]
    found: Callable[[bytes, bytes | None, float], None]
    settled: Callable[[], bool]
    counts: bool = False


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
    """One pass through a table: first what lies there, then what should."""

    def __init__(self, picture: Picture, tables: Readable) -> None:
        self._picture, self._tables = picture, tables
        self._array, self._trie = picture.table in ARRAYS, picture.table in TRIES
        self._rows = iter(()) if self._array else tables.walk(picture.table)
        self._keys: Iterator[bytes] = iter(())
        self._walked = False
        self._wrong: dict[bytes, bytes] = {}

    def step(self) -> tuple[int, list[Difference]] | None:
        """(rows looked at for the first time, differences) of the next slice; None after the
        last."""
        if not self._walked:
            some = list(islice(self._rows, SLICE))
            if some:
                return len(some), self._walk(some)
            self._walked, self._keys = True, iter(self._picture.keys())
        keys = list(islice(self._keys, SLICE))
        if not keys:
            return None
        found = self._visit(keys)
        gone = sum(each.kind is Kind.MISSING for each in found)
        return (len(keys) if self._array else gone), found

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
        found = []
        for key, value in rows:
            kind = self._kind(key, value)
            if kind is not None and not self._trie:
                # The walk reads ahead: the row may have been replaced since.
                kind = self._kind(key, self._read(key))
            if kind is not None:
                self._wrong[key] = value
                found.append(Difference(self._picture.table, key, kind))
        return found

    def _visit(self, keys: list[bytes]) -> list[Difference]:
        found = []
        for key in keys:
            kind = None if key in self._wrong else self._kind(key, self._read(key))
            if kind is not None:
                found.append(Difference(self._picture.table, key, kind))
        return found

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
