"""State on its way to the writer: the latest value per key wins, so size is bounded by the keys."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

K = TypeVar("K")
V = TypeVar("V")


class MailboxStatistics(NamedTuple):
    """``pending`` keys now and at most ever; ``replaced`` values were never seen by the reader."""

    pending: int
    most: int
    put: int
    replaced: int


class Mailbox(Generic[K, V]):
    """One reader, any number of writers, on one event loop. Keys leave in order of first put."""

    def __init__(self) -> None:
        self._values: dict[K, V] = {}
        self._wake = asyncio.Event()
        self._most = self._put = self._replaced = 0

    def put(self, items: Iterable[tuple[K, V]]) -> None:
        """Add or replace; never waits."""
        values = self._values
        before, count = len(values), 0
        for key, value in items:
            values[key] = value
            count += 1
        self._put += count
        self._replaced += count - (len(values) - before)
        self._most = max(self._most, len(values))
        self._wake.set()

    def take(self, limit: int) -> list[tuple[K, V]]:
        """At most ``limit`` oldest pairs, removed; empty when there are none."""
        values = self._values
        if len(values) <= limit:
            taken = list(values.items())
            values.clear()
            return taken
        keys = list(islice(values, limit))
        return [(key, values.pop(key)) for key in keys]

    def nudge(self) -> None:
        """Wake the reader although nothing was put."""
        self._wake.set()

    async def wait(self) -> None:
        """Return once something was put or nudged since the last wait."""
        await self._wake.wait()
        self._wake.clear()

    def __len__(self) -> int:
        return len(self._values)

    def statistics(self) -> MailboxStatistics:
        """What an operator wants to know about this queue."""
        return MailboxStatistics(len(self._values), self._most, self._put, self._replaced)
