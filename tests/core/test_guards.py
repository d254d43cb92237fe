"""The law of authorization: after every operation a connection meets the old policies or the new.

Verdicts are asked of FakeKernel, which decides as the program does (tests/kernel/test_authz.py has
the program itself).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.bpf.fake import FakeKernel, FaultyTables
from kmesh.core.model import (
    Action,
    Authorization,
    Identity,
    Match,
    PolicyScope,
    StringMatch,
)
from kmesh.core.segments import Segments, order
from kmesh.core.steer import Steering
from kmesh.core.steps import never
from kmesh.core.store import Store
from tests.core import policies as some
from tests.core.guard_law import KEYS, PODS, Change, Law, Model, asked, broad, peer, pod, policy
from tests.core.meshes import uid

if TYPE_CHECKING:
    from kmesh.core.model import Workload
    from kmesh.core.steps import Enough


OWN = Authorization(
    "a/p0", "a", PolicyScope.NAMESPACE, Action.ALLOW,
    (((Match(namespaces=(StringMatch("exact", "a"),)),),),),
)  # fmt: skip


@st.composite
def changes(draw: st.DrawFn) -> Change:
    if draw(st.booleans()):
        found = {policy.key: policy for policy in draw(some.policy_lists(4))}
        gone = draw(st.sets(st.sampled_from(KEYS), max_size=2))
        return Change(policies={**found, **dict.fromkeys(gone)})
    named = st.lists(st.sampled_from(KEYS), max_size=2, unique=True).map(tuple)
    made: list[Workload] = []
    if draw(st.booleans()):
        made.append(pod(draw(st.sampled_from(sorted(PODS))), draw(named), draw(some.identities)))
    else:
        made.append(peer(draw(st.integers(0, 1)), draw(some.identities)))
    found_ = {each.uid: each for each in made}
    gone_ = draw(st.sampled_from([(), (uid("peer0"),), (uid("peer1"),)]))
    return Change(workloads={**found_, **dict.fromkeys(gone_)})


def follow(law: Law, model: Model, steps: list[tuple[Change, int]]) -> None:
    """Each change so many turns after the one before, which may be on its way still; every verdict
    is one of before, between or after them."""
    allowed = [model.reasons()]
    for change, turns in steps:
        model.apply(change)
        law.feed(change)
        allowed.append(model.reasons())
        for _ in range(turns):
            law.turn(*allowed)
    law.settle(*allowed)
    assert asked(law.kernel) == model.reasons()


def run(kernel: FakeKernel, steps: list[tuple[Change, bool]], enough: Enough = never) -> None:
    model, law = Model(), Law(kernel)
    law.begin(model)
    law.settle()
    assert asked(kernel) == model.reasons()
    for change, restart in steps:
        before = model.reasons()
        model.apply(change)
        if restart:
            law = Law(kernel)
            law.enough = enough
            law.begin(model)
        else:
            law.feed(change)
        law.settle(before, model.reasons())
        assert asked(kernel) == model.reasons()
    law.now += 100
    law.settle()
    law.now += 100
    law.settle()
    rules = law.kernel.scan_guards().rules
    assert len(rules) == sum(len(r.values) for r in law.steer.guards.sets.rules.values())


@settings(deadline=None)
@given(st.lists(st.tuples(changes(), st.just(False)), max_size=4))
def test_every_prefix_decides_by_the_old_policies_or_the_new(
    steps: list[tuple[Change, bool]],
) -> None:
    run(FakeKernel(), steps)


@settings(deadline=None)
@given(st.lists(st.tuples(changes(), st.booleans()), max_size=3))
def test_a_new_agent_never_opens_what_was_closed(steps: list[tuple[Change, bool]]) -> None:
    run(FakeKernel(), steps)


def a_step_a_turn() -> bool:
    return True


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(changes(), st.just(True)), min_size=1, max_size=2))
def test_a_new_agent_that_compiles_in_steps_goes_by_old_sets_until_the_flip(
    steps: list[tuple[Change, bool]],
) -> None:
    run(FakeKernel(), steps, a_step_a_turn)


@pytest.mark.parametrize("enough", [never, a_step_a_turn])
def test_a_peer_whose_identity_changed_while_no_agent_ran_is_let_in_all_the_way(
    enough: Enough,
) -> None:
    one, two = peer(0, Identity("t", "a", "one")), peer(0, Identity("t", "a", "two"))
    known = Change({"a/p0": OWN}, {one.uid: one})
    changed = Change(workloads={two.uid: two})
    run(FakeKernel(), [(known, False), (changed, True)], enough)


@pytest.mark.parametrize("turns", range(5))
def test_a_peer_whose_identity_changes_twice_in_a_moment_is_let_in_all_the_way(turns: int) -> None:
    model, law = Model(), Law(FakeKernel())
    model.apply(Change({"a/p0": OWN}, {uid("peer0"): peer(0, Identity("t", "a", "one"))}))
    law.begin(model)
    law.settle()
    law.enough = a_step_a_turn
    named = (Identity("t", "a", name) for name in ("two", "three"))
    follow(law, model, [(Change(workloads={uid("peer0"): peer(0, i)}), turns) for i in named])


@settings(deadline=None)
@given(st.lists(st.tuples(changes(), st.just(False)), max_size=3), st.integers(0, 1 << 30))
def test_faulty_tables_only_delay(steps: list[tuple[Change, bool]], seed: int) -> None:
    def fails(call: int) -> bool:
        return (call * 2654435761 + seed) % 10 == 0

    run(FaultyTables(fails), steps)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(changes(), st.integers(0, 60)), max_size=3))
def test_changes_that_meet_a_set_half_compiled_lead_to_the_newest(
    steps: list[tuple[Change, int]],
) -> None:
    model, law = Model(), Law(FakeKernel(rows=1 << 12))
    law.steer = Steering(
        Store("", "Kubernetes", "n1"), Segments(1 << 10), 1 << 10, rows=Segments(1 << 12)
    )
    law.enough = a_step_a_turn
    law.begin(model)
    law.settle()
    follow(law, model, steps)


def test_the_old_set_holds_while_the_new_one_is_compiled_in_pieces() -> None:
    law, model = Law(FakeKernel(rows=1 << 14)), Model()
    law.steer = Steering(
        Store("", "Kubernetes", "n1"), Segments(1 << 16), 1 << 16, rows=Segments(1 << 14)
    )
    model.apply(Change({"a/p0": policy(1)}))
    law.begin(model)
    law.settle()
    old = asked(law.kernel)
    law.enough = a_step_a_turn
    for count in (150, 100):  # the second while the first is compiled
        law.feed(Change({"a/p0": broad(count)}))
        for _ in range(300):
            assert not law.turn(old), "there is more to do"
    law.feed(Change({"a/p1": policy(50, "a/p1")}, {uid("pod8"): pod(8, (), Identity("t", "b"))}))
    model.apply(Change({"a/p0": broad(100), "a/p1": policy(50, "a/p1")}))
    model.apply(Change(workloads={uid("pod8"): pod(8, (), Identity("t", "b"))}))
    law.settle(old, model.reasons())
    assert asked(law.kernel) == model.reasons()
    law.now += 100
    law.settle()
    sets = law.steer.guards.sets
    needed = sum(1 << order(b.words) for rules in sets.rules.values() for b in rules.blocks)
    sets.rows.wake(law.now + 100)
    assert sets.rows.statistics().used == needed, "what was begun is given back"
