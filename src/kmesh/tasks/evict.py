"""Ends open connections that policies do not allow any more, at once or a while after the change.

What is forbidden is judged when the while is over: a connection that a later change allows again
goes on, one that a later change forbids has less than the while left.
"""

from __future__ import annotations

import logging
import math
import time
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
AGAIN = 5.0  # seconds after a look that failed
SLICE = 256


class EvictorStatistics(NamedTuple):
    """Since start: looks at a pod's connections, those that failed, and the connections that were
    ended over sock_diag (those that the program ended are counted by reason in the kernel)."""

    looks: int
    failures: int
    waiting: int
    ended_over_sock_diag: int


class Evictor:
    """``changed`` tells the cookies of pods whose policies differ now; ``run`` looks at the
    connections of each ``delay`` seconds later, or never when that is None.

    ``ender`` lets a program judge and end the connections of a pod; where this kernel has none,
    ``forbids`` judges each.
    """

    def __init__(
        self,
        delay: float | None,
        ender: Ender,
        forbids: Callable[[Found], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._delay, self._ender, self._forbids, self._clock = delay, ender, forbids, clock
        self._look = Look("km_evict", IPPROTO_TCP, OPEN | 1 << LISTEN, self._judge)
        self._due: dict[int, float] = {}  # by cookie
        self._wake = anyio.Event()
        self._looks = self._failures = 0

    def changed(self, cookies: set[int]) -> None:
        """These pods are judged by other policies from now on."""
        if self._delay is None:
            return
        due = self._clock() + self._delay
        for cookie in sorted(cookies):
            self._due.setdefault(cookie, due)
        self._wake.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._wake = anyio.Event()
            with anyio.move_on_after(min(self._due.values(), default=math.inf) - self._clock()):
                await self._wake.wait()
            for cookie in self.take_due():
                await self.look(cookie)
            await anyio.sleep(EVERY)

    def take_due(self) -> list[int]:
        """The pods whose time has come; they wait no longer."""
        now = self._clock()
        found = [cookie for cookie, due in self._due.items() if due <= now]
        for cookie in found:
            del self._due[cookie]
        return found

    async def look(self, cookie: int) -> None:
        """End what is not allowed any more in one pod; after an error, which is logged and counted,
        it is tried again."""
        self._looks += 1
        try:
            await self._ender.look(cookie, self._look)
        except BpfError as error:
            self._failures += 1
            self._due.setdefault(cookie, self._clock() + AGAIN)
            log.error("cannot end the connections of pod %d: %s", cookie, error)

    def statistics(self) -> EvictorStatistics:
        """For metrics and dumps."""
        return EvictorStatistics(self._looks, self._failures, len(self._due), self._ender.by_hand)

    async def _judge(self, found: list[Found]) -> list[Found]:
        """Only what came in is judged: connections to a port on which somebody listens."""
        ports = {each.local_port for each in found if each.state == LISTEN}
        came_in = [s for s in found if s.state != LISTEN and s.local_port in ports]
        forbidden = []
        for start in range(0, len(came_in), SLICE):
            forbidden += [s for s in came_in[start : start + SLICE] if self._forbids(s)]
            await anyio.lowlevel.checkpoint()
        return forbidden
