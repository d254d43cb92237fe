"""Finds the pods that must be guarded on their interfaces: those with a transparent proxy.

Such a proxy (an ``IP_TRANSPARENT`` listener, to which TPROXY rules lead) gets connections that were
made to other ports; ``sk_lookup`` is asked about the proxy's own. A pod where one was seen stays
guarded on its interfaces, so that a proxy which restarts leaves no gap.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread

from kmesh.bpf.sockets import LISTEN
from kmesh.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kmesh.bpf.load import DataPlane
    from kmesh.tasks.writer import Writer

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds
BUDGET = 0.0125  # seconds of CPU in each round: a quarter of a percent of a core
SLICE = 16  # pods in a row, before the places of these are asked for
AUTO, NAMESPACE, INTERFACES = "auto", "sk-lookup", "tcx"


class PlaceStatistics(NamedTuple):
    """Since start: looks at a pod, and those that failed; ``on_interfaces`` pods are so now."""

    looks: int
    failures: int
    on_interfaces: int


class Places:
    """Looks at every guarded pod from time to time, at a new one within five seconds. ``hook`` is
    ``auto``, or the one place where all pods are guarded."""

    def __init__(
        self,
        plane: DataPlane,
        writer: Writer,
        hook: str,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._plane, self._writer, self._hook, self._clock = plane, writer, hook, clock
        self._looks = self._failures = 0
        self._seen: dict[int, None] = {}  # pods, the one that was looked at longest ago first

    async def run(self) -> None:
        """Look until cancelled."""
        guards = self._writer.steering.guards
        possible = "km_ingress" in self._plane.programs
        if self._hook != AUTO and not possible:
            log.warning("this kernel has no programs on interfaces: pods are guarded as a whole")
        while possible and self._hook != NAMESPACE:
            await self.round(list(guards.places.links))
            await anyio.sleep(EVERY)
        await anyio.sleep_forever()

    async def round(self, cookies: Sequence[int]) -> None:
        """Look at all pods that are new, and at the others in turn as long as the budget lasts: a
        look costs the kernel half a millisecond, whatever is in the pod."""
        guards = self._writer.steering.guards
        here = frozenset(cookies)
        known = [cookie for cookie in self._seen if cookie in here]
        fresh = [cookie for cookie in cookies if cookie not in self._seen]
        self._seen = dict.fromkeys(known)
        order, left = [*fresh, *known], BUDGET
        for start in range(0, len(order), SLICE):
            must = len(fresh) - start
            if must <= 0 and left <= 0:
                break
            asked = [(each, bool(guards.places.of(each))) for each in order[start : start + SLICE]]
            found, spent = await anyio.to_thread.run_sync(self._search, asked, must, left)
            left -= spent
            for cookie, place in found:
                self._place(cookie, place)
                self._seen.pop(cookie, None)
                self._seen[cookie] = None

    def statistics(self) -> PlaceStatistics:
        """For metrics and dumps."""
        links = self._writer.steering.guards.places.links.values()
        return PlaceStatistics(self._looks, self._failures, sum(map(bool, links)))

    def _place(self, cookie: int, place: bytes | BpfError | None) -> None:
        """Ask for another place where a pod needs it; an error is logged and counted."""
        self._looks += 1
        guards = self._writer.steering.guards
        if isinstance(place, BpfError):
            self._failures += 1
            log.warning("cannot see where to guard pod %d: %s", cookie, place)
        elif place is not None and place != guards.places.of(cookie):
            log.info("pod %d is guarded on its interfaces", cookie)
            guards.place(cookie, place)
            self._writer.mailbox.nudge()

    def _search(
        self, asked: Sequence[tuple[int, bool]], must: int, left: float
    ) -> tuple[list[tuple[int, bytes | BpfError | None]], float]:
        """What was found in the first ``must`` pods and in others as long as ``left`` seconds of
        CPU last, and how many were used. In a thread: to hand over each pod would cost more."""
        found: list[tuple[int, bytes | BpfError | None]] = []
        start = self._clock()
        for number, (cookie, already) in enumerate(asked):
            if number >= must and self._clock() - start >= left:
                break
            try:
                found.append((cookie, self._find(cookie, already)))
            except BpfError as error:
                found.append((cookie, error))
        return found, self._clock() - start

    def _find(self, cookie: int, already: bool) -> bytes | None:
        """Packed interfaces, or None when the pod may be guarded as it is."""
        if not already and self._hook == AUTO:
            sockets = self._plane.sockets(cookie)
            if sockets is None:
                return None
            try:
                if not any(found.transparent for found in sockets.list(1 << LISTEN)):
                    return None
            finally:
                sockets.close()
        return self._plane.guards.interfaces(cookie) or None
