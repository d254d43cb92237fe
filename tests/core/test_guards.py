"""The law of authorization: after every operation a connection meets the old policies or the new.

Verdicts are asked of FakeKernel, which decides as the program does (tests/kernel/test_authz.py has
the program itself).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.abi.layout import GuardMode, Reason
from kmesh.bpf.fake import FakeKernel, FaultyTables
from kmesh.core import addr
from kmesh.core.guard_status import GuardLimits
from kmesh.core.model import (
    Action,
    Authorization,
    Identity,
    Match,
    PolicyScope,
    StringMatch,
    Trait,
)
from kmesh.core.policy import Attempt, judge
from kmesh.core.segments import Full, Segments, order
from kmesh.core.steer import Steering
from kmesh.core.steps import never
from kmesh.core.store import Store
from tests.core import policies as some
from tests.core.meshes import uid, workload
from tests.core.test_policy_sets import pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmesh.core.model import Workload
    from kmesh.core.steps import Enough

PODS = {7: "10.0.0.1", 8: "10.0.0.2"}
PEERS = ("10.0.1.1", "192.168.0.1")
KEYS = tuple(f"a/p{i}" for i in range(4))
OWN = Authorization(
    "a/p0", "a", PolicyScope.NAMESPACE, Action.ALLOW,
    (((Match(namespaces=(StringMatch("exact", "a"),)),),),),
)  # fmt: skip


def pod(cookie: int, policies: tuple[str, ...] = (), identity: Identity | None = None) -> Workload:
    made = workload(f"pod{cookie}", PODS[cookie])._replace(policies=policies)
    return made._replace(identity=identity or Identity("cluster.local", "a", "a"))


def peer(index: int, identity: Identity) -> Workload:
    return workload(f"peer{index}", PEERS[index])._replace(identity=identity)


class Change(NamedTuple):
    """One batch from the control plane: policies, or workloads."""

    policies: Mapping[str, Authorization | None] = MappingProxyType({})
    workloads: Mapping[str, Workload | None] = MappingProxyType({})


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


class Model:
    """What the control plane said, and the verdicts that follow from it."""

    def __init__(self) -> None:
        self.policies: dict[str, Authorization] = {}
        self.workloads = {w.uid: w for w in map(pod, PODS)}

    def apply(self, change: Change) -> None:
        policies = {**self.policies, **change.policies}
        self.policies = {key: policy for key, policy in policies.items() if policy}
        workloads = {**self.workloads, **change.workloads}
        self.workloads = {name: each for name, each in workloads.items() if each}

    def reasons(self) -> dict[tuple[int, str, int], Reason]:
        """By pod, source and port."""
        found = {}
        for cookie, own in PODS.items():
            for source in (*PODS.values(), *PEERS, "fd00::1"):
                for port in (80, 9):
                    found[cookie, source, port] = self._reason(cookie, own, source, port)
        return found

    def _reason(self, cookie: int, own: str, source: str, port: int) -> Reason:
        if own == source:
            return Reason.EXEMPT
        pod_ = self.workloads[uid(f"pod{cookie}")]
        mine = []
        for key in pod_.policies:
            if key not in self.policies:
                return Reason.WAITING
        for policy in self.policies.values():
            if policy.scope is PolicyScope.GLOBAL:
                mine.append(policy)
            elif policy.scope is PolicyScope.NAMESPACE:
                mine += [policy] if policy.namespace == pod_.identity.namespace else []
            elif policy.key in pod_.policies:
                mine.append(policy)
        identity = next(
            (w.identity for w in self.workloads.values() if addr.parse(source) in w.addresses), None
        )
        return judge(mine, Attempt(addr.parse(source), addr.parse(own), port, identity)).reason


def steering(kernel: FakeKernel) -> Steering:
    made = Steering(Store("", "Kubernetes", "n1"), Segments(1 << 16), 1 << 16)
    made.adopt(kernel.scan(), kernel.scan_guards())
    return made


def asked(kernel: FakeKernel) -> dict[tuple[int, str, int], Reason]:
    return {
        (cookie, source, port): kernel.admit(
            cookie, Attempt(addr.parse(source), addr.parse(own), port)
        ).reason
        for cookie, own in PODS.items()
        for source in (*PODS.values(), *PEERS, "fd00::1")
        for port in (80, 9)
    }


class Law:
    """Drives a planner one operation at a time and asks after each."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel, self.now = kernel, 0.0
        self.enough: Enough = never
        self.steer = steering(kernel)

    def begin(self, model: Model) -> None:
        """The control plane's first answer."""
        self.feed(Change(dict(model.policies), dict(model.workloads)))
        for cookie in PODS:
            self.steer.enrol(cookie, uid(f"pod{cookie}"))
        self.steer.start()
        self.steer.start_guarding()

    def feed(self, change: Change) -> None:
        self.steer.put_policies(change.policies.items())
        self.steer.put(list(change.workloads.items()))

    def settle(self, *allowed: dict[tuple[int, str, int], Reason]) -> None:
        """Until idle; with ``allowed``, every verdict on the way is one of theirs."""
        for _ in range(50_000):
            if self.turn(*allowed):
                return
        raise AssertionError("never settles")

    def turn(self, *allowed: dict[tuple[int, str, int], Reason]) -> bool:
        """One operation, if one is ready; whether nothing is left to do."""
        self.now += 0.3
        ops = self.steer.next_ops(self.now, self.enough)
        if not ops and self.steer.idle() and not self.steer.guards.slices.relink:
            return True
        outcome = self.kernel.apply(ops[:1])
        self.steer.report(ops if outcome.done == len(ops) else ops[:1], outcome, self.now)
        if allowed and ops:
            self._check(allowed)
        return False

    def _check(self, allowed: tuple[dict[tuple[int, str, int], Reason], ...]) -> None:
        for question, reason in asked(self.kernel).items():
            assert reason in {each[question] for each in allowed}, question


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


def policy(count: int, key: str = "a/p0") -> Authorization:
    rules = tuple(((Match(destination_ports=(port,)),),) for port in range(count))
    return Authorization(key, "a", PolicyScope.NAMESPACE, Action.ALLOW, rules)


def broad(count: int) -> Authorization:
    """With so many rules of which no two can be joined."""
    rules = tuple(((match,),) for match in pairs(count))
    return Authorization("a/p0", "a", PolicyScope.NAMESPACE, Action.ALLOW, rules)


def test_more_rules_than_a_set_holds_close_the_pod_and_say_so() -> None:
    kernel = FakeKernel(rows=1 << 20)
    law = Law(kernel)
    law.steer = Steering(
        Store("", "Kubernetes", "n1"), Segments(1 << 16), 1 << 16, rows=Segments(1 << 20)
    )
    model = Model()
    law.begin(model)
    law.feed(Change({"a/p0": broad(20_000)}))
    law.settle()
    assert set(asked(kernel).values()) == {Reason.EXEMPT, Reason.OVER_CAPACITY}
    assert {row.mode for row in law.steer.guards.records.pods.values()} == {GuardMode.REFUSE}
    assert law.steer.guards.statistics().closed == 2
    assert {row.why for row in law.steer.guards.records.pods.values()} == {
        "20000 combinations of rules or more, 16384 fit"
    }
    law.feed(Change({"a/p0": policy(100)}))
    law.settle()
    model.apply(Change({"a/p0": policy(100)}))
    assert asked(kernel) == model.reasons()


def test_rows_that_do_not_fit_are_asked_for_and_close_the_pod_when_refused() -> None:
    law = Law(FakeKernel())
    law.steer = Steering(
        Store("", "Kubernetes", "n1"), Segments(1 << 16), 1 << 16, rows=Segments(64, table="km_row")
    )
    law.begin(Model())
    law.settle()
    law.feed(Change({"a/p0": broad(100)}))
    with pytest.raises(Full, match="km_row"):
        law.settle()
    law.steer.guards.refuse()
    law.settle()
    assert set(asked(law.kernel).values()) == {Reason.EXEMPT, Reason.OVER_CAPACITY}


@pytest.mark.parametrize(
    ("limits", "match", "why"),
    [
        (
            GuardLimits(values=5),
            Match(destination_ports=tuple(range(10))),
            "--max-policy-values is 5",
        ),
        (GuardLimits(policies=0), Match(destination_ports=(80,)), "--max-policies is 0"),
        (GuardLimits(peers=1), Match(namespaces=(StringMatch("exact", "a"),)), "--max-peers is 1"),
    ],
)
def test_a_full_table_closes_the_pods_that_need_it_and_no_other(
    limits: GuardLimits, match: Match, why: str
) -> None:
    law = Law(FakeKernel())
    law.steer = Steering(Store("", "Kubernetes", "n1"), Segments(1 << 16), 1 << 16, limits=limits)
    law.begin(Model())
    named = Authorization("a/p0", "a", PolicyScope.WORKLOAD_SELECTOR, Action.ALLOW, (((match,),),))
    law.feed(Change({"a/p0": named}, {uid("pod7"): pod(7, ("a/p0",))}))
    law.settle()
    closed, free = law.steer.guards.records.pods[7], law.steer.guards.records.pods[8]
    assert (closed.mode, closed.reason) == (GuardMode.REFUSE, Reason.OVER_CAPACITY)
    assert why in closed.why
    assert free.mode is GuardMode.ALLOW
    met = asked(law.kernel)
    assert met[7, PEERS[0], 80] is Reason.OVER_CAPACITY
    assert met[8, PEERS[0], 80] is Reason.ALLOWED


@pytest.mark.parametrize("restart", [False, True])
def test_a_workload_that_is_gone_closes_its_pod(restart: bool) -> None:
    law = Law(FakeKernel())
    model = Model()
    model.apply(Change({"a/p0": policy(100)}))
    law.begin(model)
    law.settle()
    del model.workloads[uid("pod7")]
    if restart:
        law = Law(law.kernel)
        law.begin(model)
    else:
        law.feed(Change(workloads={uid("pod7"): None}))
    law.settle()
    law.now += 100
    law.settle()
    assert asked(law.kernel)[7, PEERS[0], 80] is Reason.UNLISTED
    assert asked(law.kernel)[8, PEERS[0], 80] is Reason.ALLOWED
    assert "does not know" in law.steer.guards.records.pods[7].why
    law.feed(Change(workloads={uid("pod7"): pod(7)}))
    law.settle()
    assert asked(law.kernel)[7, PEERS[0], 80] is Reason.ALLOWED


def test_an_address_that_a_pod_takes_over_from_one_that_is_gone_is_guarded_as_its_own() -> None:
    law, model = Law(FakeKernel()), Model()
    law.begin(model)
    law.settle()
    heir = pod(7)._replace(addresses=(addr.parse(PODS[7]), addr.parse(PODS[8])))
    law.feed(Change(workloads={uid("pod8"): None}))
    law.settle()
    law.feed(Change(workloads={heir.uid: heir}))
    law.settle()
    attempt = Attempt(addr.parse(PEERS[0]), addr.parse(PODS[8]), 80)
    assert law.kernel.admit(7, attempt).reason is Reason.ALLOWED


def test_a_pod_on_the_host_s_network_is_said_to_be_guarded_by_nobody() -> None:
    law, model = Law(FakeKernel()), Model()
    model.apply(Change({"a/p0": policy(100)}))
    law.begin(model)
    on_host = pod(7)._replace(traits=int(Trait.POD | Trait.HOST_NETWORK))
    law.feed(Change(workloads={on_host.uid: on_host}))
    law.settle()
    row = law.steer.guards.records.pods[7]
    assert (row.mode, row.policies) == (GuardMode.ALLOW, ("a/p0",))
    assert "no policy is enforced" in row.why
    assert law.kernel.scan_guards().links == {8: b""}
    assert asked(law.kernel)[7, PEERS[0], 9] is Reason.NOT_ENROLLED


def test_how_much_of_each_limit_is_used() -> None:
    law = Law(FakeKernel(rows=1 << 20))
    law.begin(Model())
    other = Authorization("b/unused", "b", PolicyScope.NAMESPACE, Action.ALLOW, ())
    law.feed(Change({"a/p0": broad(100), "a/p1": policy(50, "a/p1"), "b/unused": other}))
    law.settle()
    found = law.steer.guards.statistics()
    assert (found.policies, found.policies_used, found.combinations) == (3, 2, 101)
    assert found.limits.combinations == 16384
    assert 150 < found.values < found.limits.values


@pytest.mark.parametrize("change", [False, True])
def test_a_new_agent_looks_at_the_connections_that_the_old_one_may_have_left(change: bool) -> None:
    """It may have ended after a change and before the connections which that forbade."""
    law, model = Law(FakeKernel()), Model()
    model.apply(Change({"a/p0": policy(100)}))
    law.begin(model)
    law.settle()
    law = Law(law.kernel)
    told: list[tuple[set[int], bool]] = []
    before = asked(law.kernel)
    law.steer.guards.changed = lambda cookies: told.append(
        (cookies, asked(law.kernel) == model.reasons())
    )
    if change:
        model.apply(Change({"a/p0": policy(1)}))
        assert model.reasons() != before
    law.begin(model)
    assert not told
    law.settle()
    assert told == [({7, 8}, True)], "once, when the kernel has what is wanted"
    law.feed(Change())
    law.settle()
    assert len(told) == 1


def test_a_pod_that_lets_everybody_in_is_not_looked_at() -> None:
    law = Law(FakeKernel())
    law.begin(Model())
    told: list[set[int]] = []
    law.steer.guards.changed = told.append
    law.settle()
    assert told == []
    named = {uid("pod7"): pod(7, ("a/p0",))}
    selected = policy(100)._replace(scope=PolicyScope.WORKLOAD_SELECTOR)
    law.feed(Change({"a/p0": selected}, named))
    law.settle()
    assert told == [{7}]
    law.feed(Change({"a/p0": None}, {uid("pod7"): pod(7)}))
    law.settle()
    assert told == [{7}]
    assert asked(law.kernel)[7, PEERS[0], 9] is Reason.ALLOWED


def test_nothing_is_planned_before_both_answers_are_whole() -> None:
    law = Law(FakeKernel())
    law.feed(Change({"a/p0": policy(1)}, dict(Model().workloads)))
    law.steer.enrol(7, uid("pod7"))
    law.steer.start_guarding()
    law.settle()
    assert not law.kernel.scan_guards().links
    law.steer.start()
    law.settle()
    assert law.kernel.scan_guards().links == {7: b""}
