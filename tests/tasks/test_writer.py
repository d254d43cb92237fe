"""The writer over tables in memory: what is reported, when, and what a cancellation leaves."""

from __future__ import annotations

import itertools
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from kmesh.abi.layout import Reason
from kmesh.bpf.fake import FakeKernel, FaultyTables
from kmesh.core import addr
from kmesh.core.events import ADDRESS, AUTHORIZATION, Applied, Commit, Offer
from kmesh.core.model import Resource, Service, Workload
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from kmesh.errors import BpfError, CapacityError
from kmesh.tasks.writer import Writer
from tests.core.meshes import DB, WEB, service, uid, workload
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from kmesh.core.commands import Op
    from kmesh.core.tables import Outcome

pytestmark = pytest.mark.anyio

IP, SECOND = "10.9.0.1", "10.9.0.2"
A = workload("a", "10.1.0.1", of=WEB)


class Limited(FakeKernel):
    """Tables that may grow to a limit, as the real ones."""

    def __init__(self, vips: int, slots: int, most_vips: int, most_slots: int) -> None:
        super().__init__(vips, slots)
        self.most = (most_vips, most_slots)
        self.asked: list[tuple[int, int]] = []

    def grow(self, vips: int, slots: int) -> None:
        self.asked.append((vips, slots))
        for wanted, most, option in zip(
            (vips, slots), self.most, ("--max-vips", "--max-slots"), strict=True
        ):
            if wanted > most:
                raise CapacityError(f"would need {wanted} rows, {option} is {most}", most)
        super().grow(vips, slots)


class Rig:
    """A writer with its tables, and everything it reported together with what was met then."""

    def __init__(self, tables: FakeKernel) -> None:
        self.tables = tables
        vips, slots = tables.capacity()
        self.steering = Steering(Store(), Segments(slots), vips)
        self.steering.adopt(tables.scan())
        self.writer = Writer(tables, self.steering, self._report)
        self.reports: list[tuple[Applied, object]] = []
        self._revision = 0
        self._news = anyio.Event()

    def _report(self, applied: Applied) -> None:
        self.reports.append((applied, self.met()))
        self._news.set()
        self._news = anyio.Event()

    def met(self, ip: str = IP, port: int = 80) -> object:
        found = self.tables.endpoints(addr.parse(ip), port)
        return {addr.text(d.addr) for d in found} if isinstance(found, set) else found.reason

    def offer(self, *resources: Workload | Service, removed: tuple[str, ...] = ()) -> int:
        """A whole response; its revision."""
        self._revision += 1
        upserts = tuple(
            Resource(r.key if isinstance(r, Service) else r.uid, "1", b"", r) for r in resources
        )
        self.writer.offer(Offer(ADDRESS, upserts, removed))
        self.writer.commit(Commit(ADDRESS, self._revision, True))
        return self._revision

    async def applied(self, revision: int) -> Applied:
        """The report that covers a revision."""
        with anyio.fail_after(20):
            while not self.reports or self.reports[-1][0].revision < revision:
                await self._news.wait()
        return self.reports[-1][0]

    async def until(self, met: object, ip: str = IP) -> None:
        """Return when a connection meets this."""
        await eventually(lambda: self.met(ip) == met)

    def mirror_agrees(self) -> bool:
        """Whether what the planner believes is what another process would read."""
        other = Steering(Store(), Segments(self.tables.capacity()[1]), self.tables.capacity()[0])
        other.adopt(self.tables.scan())
        mine, theirs = self.steering.planner, other.planner
        assert {k: (r.target, r.segment) for k, r in mine.records.items()} == {
            k: (r.target, r.segment) for k, r in theirs.records.items()
        }
        assert (mine.cidrs, mine.cidrs_on) == (theirs.cidrs, theirs.cidrs_on)
        assert self.steering.pods.rows == other.pods.rows
        return True


@asynccontextmanager
async def running(tables: FakeKernel) -> AsyncIterator[Rig]:
    rig = Rig(tables)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.writer.run)
        yield rig
        tasks.cancel_scope.cancel()
    assert rig.mirror_agrees()


async def test_a_revision_is_reported_when_everything_of_it_is_in_the_kernel() -> None:
    async with running(FakeKernel()) as rig:
        many = [workload(f"w{n}", f"10.2.{n >> 8}.{n & 255}", of=WEB) for n in range(700)]
        first = rig.offer(service(WEB, IP), *many)
        assert await rig.applied(first) == Applied(first, {})
        assert len(rig.reports[-1][1]) == 700  # type: ignore[arg-type]
        assert rig.writer.statistics().ops == 3, "planned once, from the whole"
        second = rig.offer(removed=tuple(w.uid for w in many[1:]))
        await rig.applied(second)
        assert rig.reports[-1][1] == {"10.2.0.0"}
        assert [applied.revision for applied, _ in rig.reports] == [first, second]
        found = rig.writer.statistics()
        assert (found.revision, found.failures, found.refused) == (second, 0, 0)
        assert len(found.delays) == 2
        assert min(found.delays) >= 0


class Followed(FakeKernel):
    """Tables that call somebody after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.after: Callable[[], object] = int

    def apply(self, ops: Sequence[Op]) -> Outcome:
        outcome = super().apply(ops)
        self.after()
        return outcome


async def test_a_revision_is_reported_though_others_never_stop_coming() -> None:
    tables = Followed()
    async with running(tables) as rig:
        names = [f"default/{n}.default.svc.cluster.local" for n in range(9)]
        services = [service(key, f"10.9.1.{n}") for n, key in enumerate(names)]
        await rig.applied(rig.offer(*services, A))
        sent, seen = itertools.count(), []

        def more() -> None:
            at = next(sent)
            seen.append(rig.reports[-1][0].revision)
            if at < 40:
                rig.offer(workload(f"w{at}", f"10.2.0.{at}", of=names[at % 9]))

        tables.after = more
        last = rig.offer(workload("first", "10.2.1.1", of=names[0])) + 40
        await rig.applied(last)
        assert len(set(seen)) > 20, "not all at the end"
        for revision, at in zip(seen, itertools.count(), strict=False):
            assert revision >= at, "what was written is reported at once"


async def test_what_waits_in_the_mailbox_is_part_of_the_revision() -> None:
    """Nothing that came before it needs a write, but the last two do."""
    async with running(FakeKernel()) as rig:
        await rig.applied(rig.offer(service(DB, SECOND)))
        strangers = [workload(f"w{n}", f"10.2.{n >> 8}.{n & 255}") for n in range(700)]
        await rig.applied(rig.offer(*strangers, A, service(WEB, IP)))
        assert rig.reports[-1] == (Applied(2, {}), {"10.1.0.1"})


async def test_commits_that_came_together_are_reported_by_the_last() -> None:
    async with running(FakeKernel()) as rig:
        rig.offer(service(WEB, IP))
        last = rig.offer(A)
        await rig.applied(last)
        assert rig.reports == [(Applied(last, {}), {"10.1.0.1"})]
        assert len(rig.writer.statistics().delays) == 2


async def test_nothing_is_written_before_the_first_answer_is_whole() -> None:
    async with running(FakeKernel()) as rig:
        upserts = (Resource(WEB, "1", b"", service(WEB, IP)), Resource(A.uid, "1", b"", A))
        rig.writer.offer(Offer(ADDRESS, upserts))
        rig.writer.commit(Commit(ADDRESS, 1, complete=False))
        assert await rig.applied(1) == Applied(1, {})
        rig.writer.commit(Commit(AUTHORIZATION, 2, complete=True))
        await rig.applied(2)
        assert rig.met() is Reason.NOT_MESH
        rig.writer.commit(Commit(ADDRESS, 3, complete=True))
        await rig.applied(3)
        assert rig.met() == {"10.1.0.1"}


async def test_policies_are_not_written() -> None:
    async with running(FakeKernel()) as rig:
        rig.writer.offer(Offer(AUTHORIZATION, (), ("default/p",)))
        rig.writer.commit(Commit(AUTHORIZATION, 1, complete=True))
        await rig.applied(1)
        assert len(rig.writer.mailbox) == 0
        assert rig.writer.mailbox.statistics().put == 0


async def test_what_cannot_be_written_is_reported_by_name_and_written_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = True
    async with running(FaultyTables(lambda _: broken)) as rig:
        revision = rig.offer(service(WEB, IP), A)
        applied = await rig.applied(revision)
        assert list(applied.rejected) == [WEB]
        assert "injected fault" in applied.rejected[WEB]
        assert rig.met() is Reason.NOT_MESH
        assert "map write failed, kept the old row" in caplog.text
        broken = False
        await rig.until({"10.1.0.1"})
        assert rig.writer.statistics().failures >= 1
        assert await rig.applied(rig.offer(service(DB, SECOND))) == Applied(2, {})


async def test_full_tables_grow() -> None:
    tables = Limited(2, 2, 1000, 1000)
    async with running(tables) as rig:
        services = [service(f"default/s{n}", f"10.9.1.{n}") for n in range(20)]
        members = [workload(f"w{n}", f"10.1.1.{n}", of=f"default/s{n}") for n in range(20)]
        revision = rig.offer(*services, *members)
        assert await rig.applied(revision) == Applied(revision, {})
        assert rig.met("10.9.1.19") == {"10.1.1.19"}
        assert rig.writer.statistics().grown == len(tables.asked) > 2
        assert rig.writer.statistics().refused == 0
        assert rig.steering.planner.vip_capacity == tables.vips >= 40


async def test_the_last_growth_is_to_the_limit_and_not_beyond() -> None:
    """Twice the size would be too much; what is needed is not."""
    tables = Limited(4, 64, 7, 64)
    async with running(tables) as rig:
        three = [service(f"default/s{n}", f"10.9.1.{n}") for n in range(3)]
        revision = rig.offer(*three)
        assert await rig.applied(revision) == Applied(revision, {})
        assert tables.vips == 7


@pytest.mark.parametrize(
    ("tables", "option"),
    [(Limited(4, 64, 4, 64), "--max-vips is 4"), (Limited(64, 4, 64, 4), "--max-slots is 4")],
    ids=["records", "slots"],
)
async def test_what_is_beyond_the_limit_is_refused_by_name_and_others_go_on(
    tables: Limited, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with running(tables) as rig:
        ports = tuple((port, 8080) for port in range(1, 9))
        big = service(WEB, IP, ports=ports)
        many = [workload(f"w{n}", f"10.1.1.{n}", of=WEB) for n in range(9)]
        small = (service(DB, SECOND), workload("d", "10.1.0.4", of=DB))
        applied = await rig.applied(rig.offer(big, *many, *small))
        assert list(applied.rejected) == [WEB]
        assert option in applied.rejected[WEB]
        assert rig.met(SECOND) == {"10.1.0.4"}
        assert rig.met() is Reason.NOT_MESH
        assert rig.writer.statistics().refused >= 1
        assert rig.writer.statistics().grown == 0
        assert option in caplog.text
        fits = service(WEB, IP, ports=((80, 8080),))
        await rig.applied(rig.offer(fits, removed=tuple(w.uid for w in many[1:])))
        await rig.until({"10.1.1.0"})


async def test_growth_that_the_kernel_refuses_is_a_refusal() -> None:
    class Stubborn(FakeKernel):
        def grow(self, vips: int, slots: int) -> None:
            raise BpfError("no memory", 12)

    async with running(Stubborn(64, 1)) as rig:
        members = [workload(f"w{n}", f"10.1.1.{n}", of=WEB) for n in range(2)]
        applied = await rig.applied(rig.offer(service(WEB, IP), *members))
        assert applied.rejected == {WEB: "no memory"}


async def test_pods_are_enrolled_and_withdrawn() -> None:
    async with running(FakeKernel()) as rig:
        rig.offer(service(WEB, IP), A)
        rig.writer.enrol(7, A.uid)
        await rig.until({"10.1.0.1"})
        ip = addr.parse(IP)
        await eventually(lambda: rig.tables.connect(7, ip, 80).reason is Reason.BALANCED)
        rig.writer.withdraw(7)
        await eventually(lambda: rig.tables.connect(7, ip, 80).reason is Reason.NOT_ENROLLED)


async def settled(rig: Rig) -> None:
    await eventually(lambda: not rig.steering.failing)


def resources(step: int) -> list[Workload | Service]:
    """Meshes that differ in everything, and need more room each time."""
    members = [
        workload(f"w{n}", f"10.1.{step}.{n}", of=(WEB, DB) if n % 2 else WEB)
        for n in range(6 * (step + 1))
    ]
    more = [service(f"default/s{n}", f"10.9.{step + 1}.{n}") for n in range(4 * step)]
    ranges = ("10.8.0.0/16",) if step % 2 else ()
    return [service(WEB, IP, *ranges), service(DB, SECOND), *more, *members]


async def test_cancelled_at_any_await_tables_and_mirror_agree() -> None:
    """Cancelled after one, two, three … steps of the loop, until it gets through uncancelled."""
    dice = itertools.count()
    for steps in range(200):
        rig = Rig(FaultyTables(lambda _: next(dice) % 11 == 10, 4, 4))
        last = [rig.offer(*resources(step)) for step in range(3)][-1]
        rig.writer.enrol(7, uid("w1"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rig.writer.run)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            through = bool(rig.reports)
            tasks.cancel_scope.cancel()
        assert rig.mirror_agrees()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rig.writer.run)
            rig.writer.mailbox.nudge()
            await rig.applied(last)
            await settled(rig)
            tasks.cancel_scope.cancel()
        assert rig.mirror_agrees()
        assert len(rig.met()) == 18  # type: ignore[arg-type]
        if through:
            break
    else:
        raise AssertionError("never got through")
    assert steps > 5


async def test_what_is_asked_is_done_between_batches_and_its_error_is_the_askers() -> None:
    def fail() -> None:
        raise CapacityError("no room", 3)

    async with running(FakeKernel()) as rig:
        rig.offer(service(WEB, IP), A)
        with anyio.fail_after(20):
            assert await rig.writer.ask(lambda: rig.steering.idle()) in (True, False)
            with pytest.raises(CapacityError, match="no room"):
                await rig.writer.ask(fail)
        await rig.until({"10.1.0.1"})
