"""Ends open connections that policies do not allow any more."""

from __future__ import annotations

import logging
from socket import IPPROTO_TCP
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.lowlevel

from kmesh.bpf.sockets import LISTEN, OPEN
from kmesh.errors import BpfError
from kmesh.tasks.ender import Ender, Look

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.bpf.sockets import Found

log = logging.getLogger(__name__)

EVERY = 0.2  # seconds between two looks at the same pods at least
SLICE = 256


class EvictorStatistics(NamedTuple):
    """Since start: looks at a pod's connections, those that failed, and the connections that were
    ended over sock_diag (those that the program ended are counted by reason in the kernel)."""

    looks: int
    failures: int
    waiting: int
    ended_over_sock_diag: int


class Evictor:
    """``changed`` tells the cookies of pods whose policies differ now; ``run`` looks at their
    connections ``delay`` seconds later, or never when that is None.

    ``ender`` lets a program judge and end the connections of a pod; where this kernel has none,
    ``forbids`` judges each.
    """

    def __init__(self, delay: float | None, ender: Ender, forbids: Callable[[Found], bool]) -> None:
        self._delay, self._ender, self._forbids = delay, ender, forbids
        self._look = Look("km_evict", IPPROTO_TCP, OPEN | 1 << LISTEN, self._judge)
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
                await self.look(cookie)
            await anyio.sleep(EVERY)

    async def look(self, cookie: int) -> None:
        """End what is not allowed any more in one pod; an error is logged and counted."""
        self._looks += 1
        try:
            await self._ender.look(cookie, self._look)
        except BpfError as error:
            self._failures += 1
            log.error("cannot end the connections of pod %d: %s", cookie, error)

    def statistics(self) -> EvictorStatistics:
        """For metrics and dumps."""
        return EvictorStatistics(
            self._looks, self._failures, len(self._waiting), self._ender.by_hand
        )

    async def _judge(self, found: list[Found]) -> list[Found]:
        """Only what came in is judged: connections to a port on which somebody listens."""
        ports = {each.local_port for each in found if each.state == LISTEN}
        came_in = [s for s in found if s.state != LISTEN and s.local_port in ports]
        forbidden = []
        for start in range(0, len(came_in), SLICE):
            forbidden += [s for s in came_in[start : start + SLICE] if self._forbids(s)]
            await anyio.lowlevel.checkpoint()
        return forbidden
