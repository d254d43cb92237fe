"""Names to the 32-bit ids that lie in the maps."""

from __future__ import annotations


class Ids:
    """Dense ids from 1; an id is handed out again only after the counter has gone round.

    After a restart ``bind`` takes ids over from the pinned maps, so they are stable for the life
    of the maps.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._last = 0

    def get(self, name: str) -> int:
        """The id of a name, a new one if it has none."""
        found = self._ids.get(name)
        if found is not None:
            return found
        candidate = self._last % 0xFFFFFFFF + 1
        while candidate in self._names:
            candidate = candidate % 0xFFFFFFFF + 1
        self._set(name, candidate)
        self._last = candidate
        return candidate

    def bind(self, name: str, id_: int) -> bool:
        """Take over an id; False (and nothing done) when the name or the id is already bound."""
        if name in self._ids or id_ in self._names or id_ == 0:
            return False
        self._set(name, id_)
        return True

    def reserve(self, id_: int) -> None:
        """Hand out only ids above this one: it lies in a map and its name is not known yet."""
        self._last = max(self._last, id_)

    def name(self, id_: int) -> str | None:
        """The name behind an id, None when it has none."""
        return self._names.get(id_)

    def drop(self, name: str) -> None:
        """Forget a name to which no row refers any more; unknown names are fine."""
        id_ = self._ids.pop(name, None)
        if id_ is not None:
            del self._names[id_]

    def _set(self, name: str, id_: int) -> None:
        self._ids[name] = id_
        self._names[id_] = name

    def __len__(self) -> int:
        return len(self._ids)
