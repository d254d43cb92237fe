"""Which resources changed with which revision: as many of the last changes as are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import ItemsView
from itertools import chain, takewhile
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST = 1 << 16
T = TypeVar("T")


def each(rows: Iterable[T]) -> Iterator[T]:
    """Names or items of something that may change meanwhile, as they are when their turn comes;
    those of a dict are copied."""
    return iter(list(rows) if isinstance(rows, dict | ItemsView) else rows)


class Changed:
    """Names that changed after a revision, some of them twice; to be iterated as often as one
    likes. Those that ``others`` know are found when their turn comes: there may be 100,000."""

    def __init__(
        self,
        revision: int,
        own: tuple[str, ...],
        others: tuple[Callable[[int], Iterable[str]], ...],
    ) -> None:
        self._revision, self._own, self._others = revision, own, others

    def __iter__(self) -> Iterator[str]:
        return chain(self._own, *(changed(self._revision) for changed in self._others))


class Changes:
    """The last ``most`` changes, and from which revision on they are whole. ``others`` know by
    themselves which names changed after a revision."""

    def __init__(
        self, most: int = MOST, others: Iterable[Callable[[int], Iterable[str]]] = ()
    ) -> None:
        self._others = tuple(others)
        self._log: deque[tuple[int, str]] = deque(maxlen=most)
        self._forgotten = 0
        self.revision = 0

    def note(self, revision: int, names: Iterable[str]) -> None:
        """These names changed, or went, with this revision, which is the newest."""
        self.revision = revision
        log = self._log
        for name in names:
            if len(log) == log.maxlen:
                self._forgotten = log[0][0]
            log.append((revision, name))

    def since(self, revision: int) -> Changed | None:
        """Names that changed after a revision; None when that is not known any more, or when the
        revision has not been yet."""
        if not self._forgotten <= revision <= self.revision:
            return None
        newer = takewhile(lambda entry: entry[0] > revision, reversed(self._log))
        return Changed(revision, tuple([name for _, name in newer]), self._others)
