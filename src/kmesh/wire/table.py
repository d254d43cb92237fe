"""Sharing of equal values, bounded: a table that is full starts again empty."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from kmesh.core.model import Gateway, Identity, Membership, Port

K = TypeVar("K")
V = TypeVar("V")

LIMIT = 65_536  # entries per table


class Table(dict[K, V], Generic[K, V]):
    """A dict that forgets everything instead of growing beyond ``limit``.

    After that, new values are not shared with old ones: it costs memory only.
    """

    __slots__ = ("cleared", "limit")

    def __init__(self, limit: int = LIMIT) -> None:
        super().__init__()
        self.limit = limit
        self.cleared = 0  # how often it was full

    def put(self, key: K, value: V) -> V:
        """Keep ``value`` for ``key`` and return it."""
        if len(self) >= self.limit:
            self.clear()
            self.cleared += 1
        self[key] = value
        return value


class Interned(Table[V, V]):
    """One copy of equal values."""

    __slots__ = ()

    def share(self, value: V) -> V:
        """The copy to keep."""
        kept = self.get(value)
        return self.put(value, value) if kept is None else kept


@dataclass(slots=True)
class Tables:
    """One table per kind of value: tuples of different classes may be equal.

    ``ports`` are found by their normal form.
    """

    texts: Interned[str] = field(default_factory=Interned)
    identities: Interned[Identity] = field(default_factory=Interned)
    gateways: Interned[Gateway] = field(default_factory=Interned)
    memberships: Interned[tuple[Membership, ...]] = field(default_factory=Interned)
    policies: Interned[tuple[str, ...]] = field(default_factory=Interned)
    ports: Table[bytes, tuple[Port, ...]] = field(default_factory=Table)
