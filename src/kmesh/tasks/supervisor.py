"""Edge tasks that crash are started again; the writer's crash ends the process (pins stay)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

FIRST_WAIT, LAST_WAIT, HEALTHY = 0.1, 30.0, 60.0


class Supervisor:
    """Counts the restarts of each task by name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.restarts: dict[str, int] = {}

    async def keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a task for ever; the wait doubles with each crash, and a run of ``HEALTHY`` seconds
        makes it short again."""
        self.restarts[name] = 0
        wait = FIRST_WAIT
        while True:
            started = self._clock()
            crash: Exception | None = None
            try:
                await run()
            except Exception as error:  # noqa: BLE001 logged below, counted, restarted
                crash = error
            if self._clock() - started >= HEALTHY:
                wait = FIRST_WAIT
            what = "crashed" if crash else "ended"
            log.error("task %s %s, starting it again in %.1f s", name, what, wait, exc_info=crash)
            self.restarts[name] += 1
            await anyio.sleep(wait)
            wait = min(2 * wait, LAST_WAIT)
