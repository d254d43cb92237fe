"""The planner's law: after any prefix of a plan each look-up gives the old answer or the new."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kmesh.abi.layout import Reason
from kmesh.bpf.fake import FakeKernel, FaultyTables
from kmesh.bpf.fake_guard import Decision
from kmesh.core import addr
from kmesh.core.segments import Full, Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from tests.core import meshes

if TYPE_CHECKING:
    from kmesh.core.commands import Op
    from kmesh.core.model import Service, Workload
    from kmesh.core.tables import Tables

    Item = tuple[str, Workload | Service | None]

Answer = Decision | frozenset[Decision]
COOKIES = {11: "a", 12: "b", 13: "d"}
LOOKUPS = [
    (addr.parse(ip), port)
    for ip in ("10.9.0.1", "10.9.0.2", "10.9.0.7", "fd09::1", "10.1.0.1")
    for port in (80, 443, 90, 1)
]


def steering(segments: int = 1 << 10, rest: float = 2.0) -> Steering:
    store = Store("", "Kubernetes", "n1")
    return Steering(store, Segments(segments, rest), 1 << 10)


def views(kernel: FakeKernel) -> dict[int, int]:
    return {
        cookie: int.from_bytes(row[4:8], "little")
        for cookie in COOKIES
        if (row := kernel.tables["km_enrol"].get(cookie.to_bytes(8, "little")))
    }


def answers(kernel: FakeKernel) -> dict[tuple[int, bytes, int], Answer]:
    """What every pod meets at every address: ids as they are, so a re-used one would show."""
    found: dict[tuple[int, bytes, int], Answer] = {}
    for cookie, view in views(kernel).items():
        for ip, port in LOOKUPS:
            met = kernel.endpoints(ip, port, view)
            found[cookie, ip, port] = met if isinstance(met, Decision) else frozenset(met)
    return found


def slices(steer: Steering, kernel: Tables, now: float) -> list[list[Op]]:
    """Everything there is to do, applied slice by slice."""
    done = []
    while (ops := steer.next_ops(now)) or not steer.idle():
        if ops:
            steer.report(ops, kernel.apply(ops), now)
            done.append(ops)
    return done


def copy(kernel: FakeKernel) -> FakeKernel:
    other = FakeKernel(kernel.vips, 1)
    other.tables = {name: dict(rows) for name, rows in kernel.tables.items()}
    other.slots = bytearray(kernel.slots)
    return other


histories = st.lists(st.lists(meshes.changes, min_size=1, max_size=6), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(histories)
def test_every_prefix_gives_old_or_new(history) -> None:  # type: ignore[no-untyped-def]
    steer, kernel = steering(), FakeKernel(1 << 10, 1 << 10)
    for cookie, name in COOKIES.items():
        steer.enrol(cookie, meshes.uid(name))
    steer.start()
    now = 0.0
    for batch in history:
        now += 1.0
        before, start = answers(kernel), copy(kernel)
        steer.put(batch)
        ops = [op for plan in slices(steer, kernel, now) for op in plan]
        after = answers(kernel)
        # A pod that changes its namespace or place may meet the new mesh as what it was before.
        between = copy(start)
        between.apply([*itertools.takewhile(lambda op: not isinstance(op.owner, int), ops)])
        as_before = answers(between)
        for op in ops:
            start.apply([op])
            for lookup, met in answers(start).items():
                allowed = (before.get(lookup, met), as_before.get(lookup, met), after[lookup])
                assert met in allowed, (op, lookup)
        assert steer.next_ops(now) == []


@settings(max_examples=200, deadline=None)
@given(histories, st.randoms(use_true_random=False))
def test_the_end_does_not_depend_on_the_order(history, dice) -> None:  # type: ignore[no-untyped-def]
    """The same resources in another order, all at once, lead to the same answers."""
    final: dict[str, Workload | Service] = {}
    for batch in history:
        for name, value in batch:
            final.pop(name, None)
            if value is not None:
                final[name] = value
    one, first = steering(), FakeKernel(1 << 10, 1 << 10)
    two, second = steering(), FakeKernel(1 << 10, 1 << 10)
    shuffled: list[Item] = list(final.items())
    dice.shuffle(shuffled)
    for steer, kernel, batches in ((one, first, history), (two, second, [shuffled])):
        for cookie, name in COOKIES.items():
            steer.enrol(cookie, meshes.uid(name))
        steer.start()
        for batch in batches:
            steer.put(batch)
            slices(steer, kernel, 0.0)
    assume(not one.store.claims.conflicts)  # between equals the last to arrive has the address
    assert named(one, answers(first)) == named(two, answers(second))


def named(steer: Steering, found: dict[tuple[int, bytes, int], Answer]) -> dict[object, object]:
    """Answers with ids turned into names."""

    def name(decision: Decision) -> tuple[object, ...]:
        service = steer.service_ids.name(decision.service)
        return decision.reason, decision.addr, decision.port, service

    return {
        key: name(met) if isinstance(met, Decision) else frozenset(map(name, met))
        for key, met in found.items()
    }


@settings(max_examples=150, deadline=None)
@given(histories, st.integers(0, 2**32))
def test_faults_converge(history, seed) -> None:  # type: ignore[no-untyped-def]
    """One call in ten fails: nothing but old and new answers, and in the end the right ones."""
    dice = random.Random(seed)
    faulty = FaultyTables(lambda _: dice.random() < 0.1, 1 << 10, 1 << 10)
    good = FakeKernel(1 << 10, 1 << 10)
    one, two = steering(), steering()
    now = 0.0
    for steer, kernel in ((one, faulty), (two, good)):
        for cookie, name in COOKIES.items():
            steer.enrol(cookie, meshes.uid(name))
        steer.start()
        for batch in history:
            now += 10
            steer.put(batch)
            for _ in range(200):
                slices(steer, kernel, now)
                if not steer.failing:
                    break
                now += 10
            assert not steer.failing
    assert named(one, answers(faulty)) == named(two, answers(good))


@settings(max_examples=100, deadline=None)
@given(histories, histories)
def test_a_new_daemon_adopts_and_writes_only_what_changed(first, second) -> None:  # type: ignore[no-untyped-def]
    kernel = FakeKernel(1 << 10, 1 << 10)
    old = steering()
    for cookie, name in COOKIES.items():
        old.enrol(cookie, meshes.uid(name))
    old.start()
    for batch in first:
        old.put(batch)
        slices(old, kernel, 0.0)
    assume(not old.store.claims.conflicts)  # who arrived last does not survive the process
    before = named(old, answers(kernel))
    new = steering()
    new.adopt(kernel.scan())
    mesh: list[Item] = [*old.store.services.items(), *old.store.workloads.items()]
    new.put(mesh)
    assert slices(new, kernel, 0.0) == [], "nothing may be written before the answer is whole"
    new.start()
    start = copy(kernel)
    old_answers = answers(kernel)
    plans = slices(new, kernel, 0.0)
    for op in (op for plan in plans for op in plan):
        start.apply([op])
        for lookup, met in answers(start).items():
            assert met in (old_answers[lookup], answers(kernel)[lookup]), (op, lookup)
    assert named(new, answers(kernel)) == before
    for batch in second:
        new.put(batch)
        old.put(batch)
        slices(new, kernel, 0.0)
    other = FakeKernel(1 << 10, 1 << 10)
    fresh = steering()
    for cookie, name in COOKIES.items():
        fresh.enrol(cookie, meshes.uid(name))
    fresh.start()
    mesh = [*old.store.services.items(), *old.store.workloads.items()]
    fresh.put(mesh)
    slices(fresh, other, 0.0)
    assert named(new, answers(kernel)).keys() == named(fresh, answers(other)).keys()


def test_one_endpoint_of_many_costs_one_segment_and_one_record() -> None:
    steer, kernel = steering(1 << 12), FakeKernel(1 << 10, 1 << 12)
    steer.start()
    steer.put([(meshes.WEB, meshes.service(meshes.WEB, "10.9.0.1"))])
    steer.put(
        (w.uid, w)
        for w in (
            meshes.workload(f"w{i}", f"10.2.{i >> 8}.{i & 255}", of=meshes.WEB) for i in range(1000)
        )
    )
    slices(steer, kernel, 0.0)
    gone = meshes.uid("w7")
    steer.put([(gone, None)])
    plans = slices(steer, kernel, 0.0)
    assert sum(len(plan) for plan in plans) == 2


def test_a_full_slot_array_is_refused_before_anything_is_written() -> None:
    steer, kernel = steering(4), FakeKernel(1 << 10, 4)
    steer.start()
    steer.put([(meshes.WEB, meshes.service(meshes.WEB, "10.9.0.1"))])
    steer.put(
        (w.uid, w)
        for w in (meshes.workload(f"w{i}", f"10.2.0.{i}", of=meshes.WEB) for i in range(9))
    )
    try:
        steer.next_ops(0.0)
    except Full as full:
        assert full.table == "km_slot"
        assert full.need >= 9
    else:
        raise AssertionError("not refused")
    steer.planner.segments.grow(64)
    kernel.grow(0, 64)
    slices(steer, kernel, 0.0)
    met = kernel.endpoints(addr.parse("10.9.0.1"), 80)
    assert isinstance(met, set)
    assert len(met) == 9
    assert {decision.reason for decision in met} == {Reason.BALANCED}
