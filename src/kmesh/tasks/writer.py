"""The only writer of the pinned maps: resources in, map writes out, revisions back."""

from __future__ import annotations

import logging
import time
from asyncio import Future, get_running_loop
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import anyio
import anyio.lowlevel

from kmesh.core.events import ADDRESS, AUTHORIZATION, Applied, Commit, Offer
from kmesh.core.histogram import Histogram
from kmesh.core.segments import Full
from kmesh.errors import KmeshError
from kmesh.queues.mailbox import Mailbox
from kmesh.tasks.growth import Grower

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.core.model import Authorization, Service, Workload
    from kmesh.core.steer import Steering
    from kmesh.core.tables import Tables

log = logging.getLogger(__name__)

T = TypeVar("T")
TAKE = 128
KEPT_DELAYS = 2048
SLICE = 0.001  # seconds of this thread; what was planned in it is written in less


class WriterStatistics(NamedTuple):
    """Counters since start; ``questions`` of others and ``responses`` wait now; delays are seconds
    from a response's first resource to its last map write."""

    revision: int
    ops: int
    batches: int
    failures: int
    refused: int
    grown: int
    questions: int
    responses: int
    delays: tuple[float, ...]


class Waiting(NamedTuple):
    """A response that is not answered yet; ``batch`` is the planner's when it knew all of it."""

    revision: int
    received: float
    batch: int


class Writer:
    """Tables are touched by ``run`` alone; everything else only leaves word."""

    def __init__(
        self,
        tables: Tables,
        steering: Steering,
        report: Callable[[Applied], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steering = steering
        self.mailbox: Mailbox[str, Workload | Service | None] = Mailbox()
        self._tables, self._report, self._clock = tables, report, clock
        self._policies: dict[str, Authorization | None] = {}
        self._commits: list[tuple[Commit, float]] = []
        self._waiting: deque[Waiting] = deque()
        self._failed_at = 0
        self._asked: deque[Callable[[], None]] = deque()
        self._delays: deque[float] = deque(maxlen=KEPT_DELAYS)
        self.visible = Histogram()
        self._received: float | None = None
        self._news = False
        self._grower = Grower(tables, steering)
        self._revision = self._ops = self._batches = self._failures = 0

    def offer(self, offer: Offer) -> None:
        """Resources of a response."""
        if self._received is None:
            self._received = self._clock()
        if offer.type_url == ADDRESS:
            # Without any, the roster has got some by itself.
            self._news = True
            self.mailbox.put((resource.name, resource.value) for resource in offer.upserts)  # type: ignore[misc]
            self.mailbox.put((name, None) for name in offer.removed)
        elif offer.type_url == AUTHORIZATION:
            self._policies.update((r.name, r.value) for r in offer.upserts)  # type: ignore[misc]
            self._policies.update((name, None) for name in offer.removed)
            self.mailbox.nudge()

    def commit(self, commit: Commit) -> None:
        """A response ended; answered by ``report`` when all before it is in the kernel."""
        self._commits.append((commit, self._received or self._clock()))
        self._received = None
        self.mailbox.nudge()

    def enrol(self, cookie: int, uid: str, netns: str = "") -> None:
        """See Steering.enrol; ``netns`` is the path of the namespace."""
        if netns:
            self._tables.remember(cookie, netns)
        self.steering.enrol(cookie, uid)
        self.mailbox.nudge()

    def withdraw(self, cookie: int) -> None:
        """See Steering.withdraw."""
        self.steering.withdraw(cookie)
        self.mailbox.nudge()

    def waits(self) -> bool:
        """Whether something that was offered has not come to the planner yet."""
        return bool(self.mailbox) or bool(self._policies)

    async def ask(self, work: Callable[[], T]) -> T:
        """What ``work`` returns when the writer calls it between two of its batches; what it raises
        is raised here. It must not take longer than a slice of work, a few milliseconds."""
        answer: Future[T] = get_running_loop().create_future()

        def run() -> None:
            if answer.cancelled():
                return
            try:
                answer.set_result(work())
            except Exception as error:  # noqa: BLE001 raised where it was asked
                answer.set_exception(error)

        self._asked.append(run)
        self.mailbox.nudge()
        return await answer

    def soon(self, work: Callable[[], None]) -> None:
        """As ``ask`` for those who need no answer; what is raised is logged."""

        def run() -> None:
            try:
                work()
            except KmeshError as error:
                log.error("%s", error)

        self._asked.append(run)
        self.mailbox.nudge()

    async def run(self) -> None:
        """Write until cancelled; a batch in flight is always finished."""
        while True:
            due = self.steering.next_due()
            wait = 3600.0 if due is None else max(due - self._clock(), 0.001)
            with anyio.move_on_after(wait):
                await self.mailbox.wait()
            while await self._turn():
                await anyio.lowlevel.checkpoint()

    async def _turn(self) -> bool:
        """One slice of work, a few milliseconds; whether there may be more."""
        end = time.thread_time() + SLICE
        while self._asked:
            self._asked.popleft()()
        taken = self.mailbox.take(TAKE)
        if taken or self._news:
            self._news = self.steering.put(taken, TAKE)
        if self.mailbox or self._news:
            return True
        if self._policies:
            some = list(islice(self._policies, TAKE))
            self.steering.put_policies([(name, self._policies.pop(name)) for name in some])
            if self._policies:
                return True
        self._number()
        try:
            ops = self.steering.next_ops(self._clock(), lambda: time.thread_time() >= end)
        except Full as full:
            await self._grower.grow(full, self._clock())
            return True
        if ops:
            outcome = self._tables.apply(ops)
            self.steering.report(ops, outcome, self._clock())
            self._ops += outcome.done
            self._batches += 1
            if outcome.error is not None:
                self._failures += 1
                log.error("map write failed, kept the old row: %s", outcome.error)
                batch = self.steering.frontends.dirty.batch
                self._failed_at = batch  # the rest of them is planned anew
        self._answer()
        return bool(ops) or not self.steering.idle()

    def _number(self) -> None:
        """All that came is known to the planner now."""
        whole = {commit.type_url for commit, _ in self._commits if commit.complete}
        if not self.steering.started and ADDRESS in whole:
            self.steering.start()
        if AUTHORIZATION in whole:
            self.steering.start_guarding()
        batch = self.steering.frontends.dirty.batch
        self._waiting += [Waiting(commit.revision, at, batch) for commit, at in self._commits]
        self._commits.clear()

    def _answer(self) -> None:
        """Tell of the responses that are in the kernel, though others came after them."""
        now, answered = self._clock(), None
        while self._waiting:
            first = self._waiting[0]
            if not self.steering.past(max(first.batch, self._failed_at)):
                break
            answered = self._waiting.popleft()
            self._delays.append(now - answered.received)
            self.visible.note(now - answered.received)
        if answered is not None:
            self._revision = answered.revision
            self._report(Applied(self._revision, self.steering.frontends.rejected()))

    @property
    def ops(self) -> int:
        """Operations written since the start."""
        return self._ops

    def statistics(self) -> WriterStatistics:
        """For metrics and dumps."""
        responses, grower = len(self._commits) + len(self._waiting), self._grower
        return WriterStatistics(
            self._revision, self._ops, self._batches, self._failures, grower.refused,
            grower.grown, len(self._asked), responses, tuple(self._delays),
        )  # fmt: skip
