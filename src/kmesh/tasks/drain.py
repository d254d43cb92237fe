"""Ends what is still bound to an endpoint some time after its removal (``--drain``)."""

from __future__ import annotations

import logging
import time
from socket import IPPROTO_TCP, IPPROTO_UDP
from typing import TYPE_CHECKING, NamedTuple

import anyio

from kmesh.abi.layout import GoneKey
from kmesh.bpf import lib
from kmesh.bpf.sockets import ESTABLISHED, OPEN, SYN_SENT
from kmesh.errors import BpfError
from kmesh.tasks.ender import Ender, Look

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.bpf.load import DataPlane
    from kmesh.bpf.sockets import Found
    from kmesh.core.drain import Draining
    from kmesh.core.model import Workload
    from kmesh.tasks.writer import Writer

log = logging.getLogger(__name__)

EVERY = 0.2  # seconds between two rounds at least
WITHIN = 1.0  # seconds for the last word of a round that is cut off
MOST = 1024  # addresses of one round


class DrainStatistics(NamedTuple):
    """``waiting`` addresses now; since start: ``addresses`` whose time came, ``failures`` of looks
    at a pod, sockets ``ended_over_sock_diag`` (others are counted by reason in the kernel)."""

    waiting: int
    addresses: int
    failures: int
    ended_over_sock_diag: int


class Drainer:
    """``left`` hears of workloads that go; ``run`` ends what pods of this node still have with
    their addresses when the time has come: connections get a reset, connected UDP sockets an
    error."""

    def __init__(
        self,
        draining: Draining,
        plane: DataPlane,
        writer: Writer,
        ender: Ender,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._draining, self._plane, self._writer = draining, plane, writer
        self._ender, self._clock = ender, clock
        self._gone: frozenset[bytes] = frozenset()
        self._wake = anyio.Event()
        self._addresses = self._failures = 0
        self._looks = (
            Look("km_drain_tcp", IPPROTO_TCP, OPEN | 1 << SYN_SENT, self._choose),
            Look("km_drain_udp", IPPROTO_UDP, 1 << ESTABLISHED, self._choose),
        )

    def left(self, old: Workload, new: Workload | None) -> None:
        """A workload is gone, or is ``new`` from now on."""
        self._draining.left(old, new, self._clock())
        if self._draining.next_due() is not None:
            self._wake.set()

    async def run(self) -> None:
        """End until cancelled."""
        while True:
            due = self._draining.next_due()
            if due is None:
                await self._wake.wait()
                self._wake = anyio.Event()
                continue
            await anyio.sleep(max(due - self._clock(), EVERY))
            await self.round()

    async def round(self) -> None:
        """End what is due now; errors are logged and counted."""
        store = self._writer.steering.store

        def owned(addr: bytes) -> bool:
            return store.claims.owner(store.home.network, addr) is not None

        by_program = "km_gone" in self._plane.maps
        gone = self._draining.take(self._clock(), owned, MOST)
        if not gone:
            return
        self._addresses += len(gone)
        self._gone = frozenset(gone)
        try:
            if by_program:
                await self._writer.ask(lambda: self._mark(gone))
            for cookie in sorted(self._writer.steering.pods.wanted):
                await self._look(cookie)
        except BpfError as error:
            self._failures += 1
            log.error("cannot end what is bound to removed endpoints: %s", error)
        finally:
            if by_program:
                with anyio.move_on_after(WITHIN, shield=True):
                    await self._writer.ask(self._unmark)

    async def _look(self, cookie: int) -> None:
        try:
            await self._ender.look(cookie, *self._looks)
        except BpfError as error:
            self._failures += 1
            log.error("cannot end sockets of pod %d: %s", cookie, error)

    async def _choose(self, found: list[Found]) -> list[Found]:
        return [each for each in found if each.remote in self._gone]

    def _mark(self, gone: list[bytes]) -> None:
        self._unmark()  # what a round left that was cut off
        for addr in gone:
            lib.update(self._plane.maps["km_gone"], GoneKey(addr).pack(), bytes(4))

    def _unmark(self) -> None:
        fd = self._plane.maps["km_gone"]
        for key, _ in list(lib.rows(fd)):
            lib.delete(fd, key)

    def statistics(self) -> DrainStatistics:
        """For metrics and dumps."""
        return DrainStatistics(
            len(self._draining), self._addresses, self._failures, self._ender.by_hand
        )
