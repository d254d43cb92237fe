"""Ends open connections that policies do not allow any more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread

from kmesh.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

EVERY = 0.2  # seconds between two looks at the same pods at least


class EvictorStatistics(NamedTuple):
    """Since start: looks at a pod's connections, and those that failed."""

    looks: int
    failures: int
    waiting: int


class Evictor:
    """``changed`` tells the cookies of pods whose policies differ now; ``run`` looks at their
    connections ``delay`` seconds later, or never when that is None."""

    def __init__(self, evict: Callable[[int], bool], delay: float | None) -> None:
        self._evict, self._delay = evict, delay
        self._waiting: set[int] = set()
        self._wake = anyio.Event()
        self._looks = self._failures = 0

    def changed(self, cookies: set[int]) -> None:
        """These pods are judged by other policies from now on."""
        if self._delay is not None and cookies:
            self._waiting |= cookies
            self._wake.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            await anyio.sleep(self._delay or 0)
            cookies, self._waiting = self._waiting, set()
            for cookie in sorted(cookies):
                await self._look(cookie)
            await anyio.sleep(EVERY)

    def statistics(self) -> EvictorStatistics:
        """For metrics and dumps."""
        return EvictorStatistics(self._looks, self._failures, len(self._waiting))

    async def _look(self, cookie: int) -> None:
        self._looks += 1
        try:
            possible = await anyio.to_thread.run_sync(self._evict, cookie)
        except BpfError as error:
            self._failures += 1
            log.error("cannot end the connections of pod %d: %s", cookie, error)
            return
        if not possible:
            self._failures += 1
            self._delay = None
            log.warning("this kernel cannot end connections: open ones outlive their policies")
