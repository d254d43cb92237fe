"""Finds the pods that must be guarded on their interfaces: those with a transparent proxy.

Such a proxy (an ``IP_TRANSPARENT`` listener, to which TPROXY rules lead) gets connections that were
made to other ports; ``sk_lookup`` is asked about the proxy's own. A pod where one was seen stays
guarded on its interfaces, so that a proxy which restarts leaves no gap.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread

from kmesh.bpf.sockets import LISTEN
from kmesh.errors import BpfError

if TYPE_CHECKING:
    from kmesh.bpf.load import DataPlane
    from kmesh.tasks.writer import Writer

log = logging.getLogger(__name__)

EVERY = 5.0
AUTO, NAMESPACE, INTERFACES = "auto", "sk-lookup", "tcx"


class PlaceStatistics(NamedTuple):
    """Since start: looks at a pod, and those that failed; ``on_interfaces`` pods are so now."""

    looks: int
    failures: int
    on_interfaces: int


class Places:
    """Looks at every guarded pod from time to time. ``hook`` is ``auto``, or the one place where
    all pods are guarded."""

    def __init__(self, plane: DataPlane, writer: Writer, hook: str) -> None:
        self._plane, self._writer, self._hook = plane, writer, hook
        self._looks = self._failures = 0

    async def run(self) -> None:
        """Look until cancelled."""
        guards = self._writer.steering.guards
        possible = "km_ingress" in self._plane.programs
        if self._hook != AUTO and not possible:
            log.warning("this kernel has no programs on interfaces: pods are guarded as a whole")
        while possible and self._hook != NAMESPACE:
            for cookie in list(guards.links):
                await self.look(cookie)
            await anyio.sleep(EVERY)
        await anyio.sleep_forever()

    async def look(self, cookie: int) -> None:
        """Ask for another place where one pod needs it; an error is logged and counted."""
        self._looks += 1
        guards = self._writer.steering.guards
        try:
            place = await anyio.to_thread.run_sync(self._find, cookie, bool(guards.places(cookie)))
        except BpfError as error:
            self._failures += 1
            log.warning("cannot see where to guard pod %d: %s", cookie, error)
            return
        if place is not None and place != guards.places(cookie):
            log.info("pod %d is guarded on its interfaces", cookie)
            guards.place(cookie, place)
            self._writer.mailbox.nudge()

    def statistics(self) -> PlaceStatistics:
        """For metrics and dumps."""
        links = self._writer.steering.guards.links.values()
        return PlaceStatistics(self._looks, self._failures, sum(map(bool, links)))

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
