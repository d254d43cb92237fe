"""Which resources changed with which revision: as many of the last changes as are kept."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST = 1 << 16


class Changes:
    """The last ``most`` changes, and from which revision on they are whole. ``others`` know by
    themselves which names changed after a revision."""

    def __init__(
        self, most: int = MOST, others: Iterable[Callable[[int], Iterable[str]]] = ()
    ) -> None:
        self._others = list(others)
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

    def since(self, revision: int) -> set[str] | None:
        """Names that changed after a revision; None when that is not known any more, or when the
        revision has not been yet."""
        if not self._forgotten <= revision <= self.revision:
            return None
        found: set[str] = set()
        for changed, name in reversed(self._log):
            if changed <= revision:
                break
            found.add(name)
        for changed_since in self._others:
            found.update(changed_since(revision))
        return found
