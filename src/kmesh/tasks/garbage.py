"""Python's garbage collector, kept from holding the loop up.

A full collection visits every row of the mesh and takes 100 ms: there is none while it arrives, and
afterwards its rows are frozen, so that none ever visits them. What replaces a frozen row is young,
and as the old one is freed, the collector's own count does not rise: after a minute of changes its
next look would be at all of them at once. So it is told to look after every tenth of a second in
which something was written.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_SYNC = 60.0
BUSY, IDLE = 0.1, 0.8  # seconds between looks
OLDER = 2000  # rows, after which it looks also at what outlived the last looks


class Looks:
    """When to look, by how much work was done in all."""

    def __init__(self) -> None:
        self._seen = self._older = 0
        self.wait = BUSY

    def after(self, work: int) -> int | None:
        """The generation to collect now, None while nothing was done since the last look."""
        if work == self._seen:
            self.wait = min(2 * self.wait, IDLE)
            return None
        self._seen, self.wait = work, BUSY
        if work - self._older < OLDER:
            return 0
        self._older = work
        return 1


async def run(synced: anyio.Event, work: Callable[[], int]) -> None:
    """Until cancelled; ``work`` counts the rows written."""
    gc.disable()
    with anyio.move_on_after(FIRST_SYNC):
        await synced.wait()
    gc.freeze()
    gc.enable()
    looks = Looks()
    while True:
        generation = looks.after(work())
        if generation is not None:
            gc.collect(generation)
        await anyio.sleep(looks.wait)
