"""The programs let go of all traffic when no agent was here for so long (--dead-man).

There is no process then that could detach anything: the programs compare a deadline in km_switch
with the clock. The agent puts it off while it runs. A deadline that had passed when the agent
started stays until the mesh is in sync: tables that nobody kept for hours are not trusted before.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kmesh.tasks.switches import Switchboard

HOUR = 3600.0
LONGEST = 60.0
SHARE = 10  # it is put off so many times while it runs


class DeadManState(NamedTuple):
    """``after`` seconds without an agent the programs let go, in ``ends_in`` seconds from now if it
    stops now; None: never. ``let_go``: they have."""

    after: float | None
    ends_in: float | None
    let_go: bool


class DeadMan:
    """``hours`` is None when the programs never let go; ``synced`` returns when the mesh is."""

    def __init__(
        self,
        hours: float | None,
        switches: Switchboard,
        synced: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._after = None if hours is None else hours * HOUR
        self._switches, self._synced, self._clock = switches, synced, clock
        if not self.state().let_go:
            self._put_off()

    async def run(self) -> None:
        """Put the deadline off until cancelled."""
        if self.state().let_go:
            await self._synced()
        self._put_off()
        while self._after is not None:
            await anyio.sleep(min(self._after / SHARE, LONGEST))
            self._put_off()
        await anyio.sleep_forever()

    def state(self) -> DeadManState:
        """For GET /state and metrics."""
        deadline = self._switches.deadline
        left = deadline - self._clock() if deadline else None
        return DeadManState(self._after, left, left is not None and left <= 0)

    def _put_off(self) -> None:
        # Whole seconds in the row, rounded up: at least what was asked for.
        end = 0 if self._after is None else int(self._clock() + self._after) + 1
        self._switches.let_go(end)
