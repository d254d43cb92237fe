"""Edge tasks that crash are started again; the writer's crash ends the process (pins stay)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

FIRST_WAIT, LAST_WAIT = 0.1, 30.0


class Supervisor:
    """Counts the restarts of each task by name."""

    def __init__(self) -> None:
        self.restarts: dict[str, int] = {}

    async def keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a task for ever, with back-off after each crash."""
        self.restarts[name] = 0
        wait = FIRST_WAIT
        while True:
            try:
                await run()
            except Exception:
                log.exception("task %s crashed, starting it again in %.1f s", name, wait)
            else:
                log.error("task %s ended, starting it again in %.1f s", name, wait)
            self.restarts[name] += 1
            await anyio.sleep(wait)
            wait = min(2 * wait, LAST_WAIT)
