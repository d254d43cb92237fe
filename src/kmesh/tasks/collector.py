"""Asks every part for its numbers, for a scrape or an export."""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import anyio

from kmesh.core.exposition import Metric
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kmesh.tasks.writer import Writer

log = logging.getLogger(__name__)

ASK_DEADLINE = 2.0
# Reads maps that the writer may be replacing: between two of its batches they stay.
ASKED = frozenset({"kernel", "authorization"})

Parts = dict[str, "Callable[[], Iterable[Metric]]"]


class Collector:
    """``parts`` gives the parts by the name under which ``failures`` counts."""

    def __init__(self, parts: Callable[[], Parts], writer: Writer) -> None:
        self.failures: Counter[str] = Counter()
        self._parts, self._writer = parts, writer

    def names(self) -> list[str]:
        """Of all parts."""
        return list(self._parts())

    async def collect(self) -> list[Metric]:
        """Every metric; samples may still be unread. A part that cannot be read is left out,
        counted and logged."""
        found: list[Metric] = []
        for name, part in self._parts().items():
            try:
                if name in ASKED:
                    with anyio.fail_after(ASK_DEADLINE):
                        found += await self._writer.ask(partial(_all, part))
                else:
                    found += part()
            except (KmeshError, OSError) as error:  # TimeoutError is an OSError
                self.failures[name] += 1
                log.error("no metrics of %s: %s", name, str(error) or "the writer is busy")
            await anyio.lowlevel.checkpoint()
        return found


def _all(part: Callable[[], Iterable[Metric]]) -> list[Metric]:
    """A part with its samples read: afterwards the maps may be others."""
    return [Metric(family, list(samples)) for family, samples in part()]
