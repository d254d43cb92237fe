"""What each client of each type must still be told: pure, no wire, no clock.

The rules are istiod's (ambient-contract §2.3): a first answer leaves out what the client already
has in the same version and removes what it claims but does not exist; the first answer is due even
when it is empty; a resource without a version is always sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WILDCARD = "*"


class Entry(NamedTuple):
    """One resource; an empty version means that the type has none (Authorization)."""

    version: str
    raw: bytes


class Delta(NamedTuple):
    """Names that a response puts and removes."""

    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


Snapshot = dict[str, Entry]


def difference(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> Delta:
    """What turns one snapshot of a type into another."""
    changed = tuple(name for name, entry in new.items() if old.get(name) != entry)
    return Delta(changed, tuple(name for name in old if name not in new))


class Subscription:
    """One client's interest in one type. Changes collapse: only the latest state is ever sent."""

    def __init__(self) -> None:
        self._wildcard = False
        self._names: set[str] = set()
        self._claims: Mapping[str, str] | None = None
        self._dirty: dict[str, None] = {}

    @property
    def due(self) -> bool:
        """Whether there is something to send, an empty first answer included."""
        return self._claims is not None or bool(self._dirty)

    def begin(self, subscribe: Iterable[str], claims: Mapping[str, str]) -> None:
        """First request on a stream; ``claims`` are the client's names and versions."""
        self._names = set(subscribe)
        self._wildcard = not self._names or WILDCARD in self._names
        self._names.discard(WILDCARD)
        self._claims = dict(claims)

    def amend(self, subscribe: Iterable[str], unsubscribe: Iterable[str]) -> None:
        """Later interest: new names are sent, or reported as removed when they do not exist."""
        for name in subscribe:
            if name == WILDCARD:
                self._wildcard = True
            else:
                self._names.add(name)
                self._dirty[name] = None
        for name in unsubscribe:
            if name == WILDCARD:
                self._wildcard = False
            else:
                self._names.discard(name)
                self._dirty.pop(name, None)

    def touch(self, names: Iterable[str]) -> None:
        """These resources were put or removed in the current state."""
        if self._wildcard:
            self._dirty.update(dict.fromkeys(names))
        else:
            self._dirty.update(dict.fromkeys(name for name in names if name in self._names))

    def take(self, current: Mapping[str, Entry]) -> Delta:
        """All that is due now; afterwards the client counts as told."""
        dirty, self._dirty = self._dirty, {}
        if self._claims is not None:
            claims, self._claims = self._claims, None
            return self._first(claims, current)
        return Delta(
            tuple(name for name in dirty if name in current),
            tuple(name for name in dirty if name not in current),
        )

    def _first(self, claims: Mapping[str, str], current: Mapping[str, Entry]) -> Delta:
        wanted = current if self._wildcard else [name for name in current if name in self._names]
        changed = tuple(
            name
            for name in wanted
            if not current[name].version or claims.get(name) != current[name].version
        )
        gone = dict.fromkeys([*claims, *sorted(self._names)])
        return Delta(changed, tuple(name for name in gone if name not in current))
