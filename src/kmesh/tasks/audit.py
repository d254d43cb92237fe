"""Compares what is planned with what the kernel holds, pod by pod and row by row, and repairs it.

``GET /audit`` tells what the last round found, ``POST /audit`` makes one now.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.to_thread
from aiohttp import web

from kmesh.bpf import mend
from kmesh.core.audit import SLICE, Sweep
from kmesh.core.pictures import pictures
from kmesh.core.proof import PodProof, Seen, prove
from kmesh.errors import BpfError
from kmesh.tasks.problems import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kmesh.bpf.load import DataPlane
    from kmesh.core.audit import Difference
    from kmesh.core.tables import Tables
    from kmesh.core.traffic import Row
    from kmesh.tasks.admin_context import Context
    from kmesh.tasks.writer import Writer

log = logging.getLogger(__name__)

REST = 50.0  # a round of a second of computation is followed by 50 without
SETTLE = 5.0  # seconds for the writer to repair what was found
POLL = 0.05
KEPT = 1000  # differences that are looked at once more


class Unrepaired(NamedTuple):
    """What could not be repaired."""

    what: str
    next_step: str


class AuditStatistics(NamedTuple):
    """Since start, ``differences`` by (table, kind); of the last round: its ``seconds``, of them
    ``cpu_seconds`` on the loop, the ``rows`` that were compared, and what is still wrong."""

    rounds: int
    differences: dict[tuple[str, str], int]
    mended: int
    removed: int
    seconds: float
    cpu_seconds: float
    rows: int
    exceptions: tuple[Unrepaired, ...]


class Auditor:
    """``interval`` is the seconds between two rounds; None audits only when asked."""

    def __init__(
        self,
        plane: DataPlane,
        tables: Tables,
        writer: Writer,
        interval: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.proofs: list[PodProof] = []
        self._plane, self._tables, self._writer = plane, tables, writer
        self._interval, self._clock = interval, clock
        self._seen: dict[int, Seen] = {}
        self._found = Counter[tuple[str, str]]()
        self._exceptions: list[Unrepaired] = []
        self._rounds = self._mended = self._removed = self._rows = 0
        self._seconds = self._cpu = 0.0
        self._turn = anyio.Lock()
        self._thread = anyio.CapacityLimiter(1)

    async def run(self) -> None:
        """Audit until cancelled."""
        while self._interval is not None:
            await anyio.sleep(max(self._interval, REST * self._cpu))
            await self.round()
        await anyio.sleep_forever()

    def count(self, rows: Sequence[Row]) -> None:
        """Traffic that was seen (a subscriber of TrafficTask)."""
        now = self._clock()
        for key, grown in rows:
            if grown.opened or grown.failed:
                before = self._seen.get(key.workload, Seen())
                self._seen[key.workload] = Seen(
                    before.connections + grown.opened + grown.failed, now
                )

    async def round(self) -> None:
        """One look at everything. Raises BpfError when the kernel cannot be read. While tables
        are being filled, what is in force is another build's: that is left alone."""
        if self._plane.waits:
            return
        async with self._turn:
            began, self._cpu, self._rows = self._clock(), 0.0, 0
            exceptions = await self._links()
            await self._bury()
            found = await self._compare()
            await self._tell(found)
            await self._settle()
            exceptions += await self._still(found[:KEPT])
            await self._prove()
            exceptions += [
                Unrepaired(f"pod {pod.uid} is not wholly in the mesh: {pod.why}", "")
                for pod in self.proofs
                if pod.broken
            ]
            self._exceptions = exceptions
            for each in exceptions:
                log.error("%s", each.what)
            self._rounds += 1
            self._seconds = self._clock() - began

    def statistics(self) -> AuditStatistics:
        """For metrics and dumps."""
        return AuditStatistics(
            self._rounds, dict(self._found), self._mended, self._removed, self._seconds, self._cpu,
            self._rows, tuple(self._exceptions),
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """For GET /state and GET /audit."""
        found = self.statistics()
        tables: dict[str, dict[str, int]] = {}
        for (table, kind), count in found.differences.items():
            tables.setdefault(table, {})[kind] = count
        exceptions = [each._asdict() for each in found.exceptions]
        pods = [{**pod._asdict(), "broken": pod.broken} for pod in self.proofs]
        return {
            **found._asdict(), "differences": tables, "exceptions": exceptions, "pods": pods,
        }  # fmt: skip

    async def _links(self) -> list[Unrepaired]:
        """The links of the node."""
        try:
            found = await self._writer.ask(lambda: mend.mend(self._plane))
        except BpfError as error:
            return [Unrepaired(f"links of the node cannot be mended: {error}", error.next_step)]
        self._mended += len(found)
        for name, what in found.items():
            log.warning("link %s %s, attached it again", name, what)
        return []

    async def _bury(self) -> None:
        """Withdraw pods whose namespace is gone."""
        for cookie in list(self._writer.steering.pods.wanted):
            if await self._alive(cookie) is False:
                log.warning("the network namespace with cookie %d is gone: withdrawn", cookie)
                self._writer.withdraw(cookie)
                self._removed += 1

    async def _alive(self, cookie: int) -> bool | None:
        alive = self._plane.guards.alive
        return await anyio.to_thread.run_sync(alive, cookie, limiter=self._thread)

    async def _compare(self) -> list[tuple[Sweep, Difference]]:
        """Compare every table."""
        differences: list[tuple[Sweep, Difference]] = []
        for picture in pictures(self._writer.steering):
            sweep = Sweep(picture, self._tables, self._tables.sealed)
            kinds = Counter[str]()
            while (found := await self._slice(sweep, picture.settled)) is not None:
                kinds.update(str(each.kind) for each in found)
                differences += [(sweep, each) for each in found]
            for kind, count in kinds.items():
                self._found[picture.table, kind] += count
                log.warning("%s: %d rows are %s, planned anew", picture.table, count, kind)
        return differences

    async def _tell(self, differences: list[tuple[Sweep, Difference]]) -> None:
        """Let the planner plan all of them anew."""
        for start in range(0, len(differences), SLICE):
            some = differences[start : start + SLICE]

            await self._writer.ask(partial(tell, some, self._clock()))

    async def _slice(self, sweep: Sweep, settled: Callable[[], bool]) -> list[Difference] | None:
        """Differences of the next slice; None after the last."""

        def work() -> list[Difference] | None:
            start = time.thread_time()
            try:
                step = sweep.step() if settled() else None
                if step is None:
                    return None
                self._rows += step[0]
                return step[1]
            finally:
                self._cpu += time.thread_time() - start

        return await self._writer.ask(work)

    async def _settle(self) -> None:
        """Give the writer the time to repair."""
        steering = self._writer.steering
        with anyio.move_on_after(SETTLE):
            while not steering.idle() or steering.failing:  # noqa: ASYNC110 nothing tells
                await anyio.sleep(POLL)

    async def _still(self, left: list[tuple[Sweep, Difference]]) -> list[Unrepaired]:
        """What was not repaired; before the mesh is known nothing is."""
        steering = self._writer.steering
        if not (steering.started and steering.guards.started):
            return []
        found = Counter[tuple[str, str]]()
        for sweep, each in left:
            if await self._writer.ask(partial(sweep.still, each)):
                found[each.table, each.kind] += 1
        step = "See failing in GET /state and the log."
        return [
            Unrepaired(f"{count} rows of {table} are {kind} and cannot be repaired", step)
            for (table, kind), count in found.items()
        ]

    async def _prove(self) -> None:
        steering, proofs = self._writer.steering, []
        for cookie in list(steering.pods.wanted):
            alive = await self._alive(cookie)
            row = steering.pods.rows.get(cookie)
            seen = self._seen.get(row.workload, Seen()) if row else Seen()
            work = partial(prove, steering, self._tables, cookie, alive, seen, self._clock())
            proofs.append(await self._writer.ask(work))
        self.proofs = proofs
        used = {row.workload for row in steering.pods.rows.values()}
        self._seen = {id_: seen for id_, seen in self._seen.items() if id_ in used}


def tell(differences: list[tuple[Sweep, Difference]], now: float) -> None:
    """Let the planner plan these rows anew."""
    for sweep, each in differences:
        sweep.tell(each, now)


def routes(context: Context) -> list[web.RouteDef]:
    """The last round, and one now."""
    auditor: Auditor = context.audit

    async def last(_: web.Request) -> web.Response:
        return answer(auditor.state())

    async def now(_: web.Request) -> web.Response:
        await auditor.round()
        return answer(auditor.state())

    return [web.get("/audit", last), web.post("/audit", now)]
