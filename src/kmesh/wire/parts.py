"""Rows of what workloads have in common, made once for equal bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.wire import packed
from kmesh.wire.table import Table, Tables

if TYPE_CHECKING:
    from kmesh.core.model import Profile


class PartStatistics(NamedTuple):
    """Values shared now, and how often a full table started again."""

    shared: int
    profiles: int
    cleared: int


class Parts:
    """From the normal form of native/scan_*.c to the rows of wire.packed."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.shared_known: Table[bytes, packed.Shared] = Table()
        self.profiles_known: Table[bytes, Profile] = Table()

    def shared(self, key: bytes) -> packed.Shared:
        """What replicas share."""
        known = self.shared_known.get(key)
        return known or self.shared_known.put(key, packed.shared(key, self.tables))

    def profile(self, key: bytes) -> Profile:
        """A place."""
        known = self.profiles_known.get(key)
        return known or self.profiles_known.put(key, packed.profile(key, self.tables))

    def statistics(self) -> PartStatistics:
        """What an operator wants to know about the tables."""
        cleared = self.shared_known.cleared + self.profiles_known.cleared
        return PartStatistics(len(self.shared_known), len(self.profiles_known), cleared)
