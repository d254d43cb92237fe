"""Names to the 32-bit ids that lie in the maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

MOST = 0xFFFFFFFF


class Ids:
    """Dense ids from 1; an id is handed out again only after the counter has gone round.

    After a restart ``bind`` takes ids over from the pinned maps, so they are stable for the life
    of the maps. There are 100,000 names: the way back is searched, not stored. They lie in
    ``ids``, which nobody else changes but by ``took``.
    """

    def __init__(self, ids: MutableMapping[str, int] | None = None) -> None:
        self._ids: MutableMapping[str, int] = {} if ids is None else ids
        self._last = self._reserved = 0
        self._bound: set[int] = set()

    def get(self, name: str) -> int:
        """The id of a name, a new one if it has none."""
        found = self._ids.get(name)
        return self._new(name) if found is None else found

    def bind(self, name: str, id_: int) -> bool:
        """Take over a reserved id; False (and nothing done) when the name has an id, or the id a
        name, or it was not reserved."""
        if name in self._ids or id_ in self._bound or not 0 < id_ <= self._reserved:
            return False
        self._ids[name] = id_
        self._bound.add(id_)
        return True

    def reserve(self, id_: int) -> None:
        """Hand out only ids above this one: it lies in a map and its name is not known yet. To be
        called before the first ``get``."""
        self._last = self._reserved = max(self._reserved, id_)

    def name(self, id_: int) -> str | None:
        """The name behind an id, None when it has none; looks at every name."""
        return next((name for name, each in self._ids.items() if each == id_), None)

    def pairs(self) -> Iterator[tuple[str, int]]:
        """Every name with its id, as they are when their turn comes."""
        return iter(list(self._ids.items()) if isinstance(self._ids, dict) else self._ids.items())

    @property
    def last(self) -> int:
        """All ids above this one are free, unless it is near MOST."""
        return self._last

    def took(self, last: int) -> None:
        """The ids after ``last`` were given away, up to this one."""
        self._last = last

    def drop(self, name: str) -> None:
        """Forget a name to which no row refers any more; unknown names are fine."""
        id_ = self._ids.pop(name, None)
        if id_ is not None:
            self._bound.discard(id_)

    def _new(self, name: str) -> int:
        if self._last == MOST:
            self._last = self._reserved = 0
            self._bound = set(self._ids.values())
        id_ = self._last + 1
        while id_ in self._bound:
            id_ = id_ % MOST + 1
        self._ids[name] = self._last = id_
        return id_

    def __len__(self) -> int:
        return len(self._ids)
