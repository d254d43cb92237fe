"""How pods are guarded: limits, workloads that go, pods on the host's network, who is told."""

from __future__ import annotations

import pytest

from kmesh.abi.layout import GuardMode, Reason
from kmesh.bpf.fake import FakeKernel
from kmesh.core import addr
from kmesh.core.guard_status import GuardLimits
from kmesh.core.model import (
    Action,
    Authorization,
    Match,
    PolicyScope,
    StringMatch,
    Trait,
)
from kmesh.core.policy import Attempt
from kmesh.core.segments import Full, Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from tests.core.guard_law import PEERS, PODS, Change, Law, Model, asked, broad, pod, policy
from tests.core.meshes import uid


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
