"""Every difference between the layers is found, named by what it is about and how it differs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.core import addr
from kmesh.core.apart import KINDS, LAYERS, Apart
from kmesh.core.commands import CIDR, ENROL, EXEMPT, GUARD, LINK, MATCH, OWN, PEER, POD, VIP
from kmesh.core.differences import Wanted, compare
from kmesh.core.mirror import Realised
from kmesh.core.model import Rejected, Resource
from kmesh.core.pictures import pictures
from kmesh.core.plan import frontend_of
from kmesh.core.policy_index import Content
from kmesh.core.row_names import describe
from tests.core.meshes import WEB, service, uid, workload
from tests.core.test_audit import COOKIE, POLICY, RULE, Rig
from tests.core.test_law import slices

if TYPE_CHECKING:
    from kmesh.core.model import Authorization, Service, Workload

PORT_80 = f"10.9.0.1 port 80 of {WEB}"


class Node(Rig):
    """A planner, and what the control plane sent it."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, Resource] = {}
        self.refused: dict[str, str] = {}
        self.waiting = False
        store = self.steer.store
        for key, front in store.services.items():
            self.send(key, front)
        for name, value in store.workloads.items():
            self.send(name, value)
        self.policies = {POLICY.key: Resource(POLICY.key, "1", b"", POLICY)}

    def send(self, name: str, value: Workload | Service | Rejected) -> None:
        self.held[name] = Resource(name, "1", b"", value)

    def say(self, name: str, policy: Authorization | None) -> None:
        """Send a policy, or (None) that it is no more, and let the planner know."""
        self.steer.put_policies([(name, policy)])
        self.policies.pop(name, None)
        if policy is not None:
            self.policies[name] = Resource(name, "1", b"", policy)

    def diff(self) -> list[Apart]:
        wanted = Wanted(self.held, self.policies, self.refused, lambda: self.waiting)
        found, looked = [], Counter[str]()
        for step in compare(self.steer, self.kernel, wanted):
            found += step.found
            looked[step.sort] += step.looked
        assert looked["resources"] >= len(self.held)
        for each in found:
            assert (each.first in LAYERS, each.second in LAYERS, each.kind in KINDS) == (True,) * 3
        return found

    def only(self) -> Apart:
        (found,) = self.diff()
        return found


def test_layers_that_agree() -> None:
    assert Node().diff() == []


def test_what_was_sent_and_is_not_in_force() -> None:
    node = Node()
    node.send(uid("new"), workload("new", "10.1.0.9"))
    assert node.only() == ("xds", "desired", "resources", uid("new"), "missing", "")
    node.waiting = True
    assert node.only()[4:] == ("waiting", "the writer has not come to it yet")
    node.waiting = False
    del node.held[uid("new")]
    node.send(uid("b"), workload("b", "10.1.0.2"))
    assert node.only() == ("xds", "desired", "resources", uid("b"), "altered", "")
    del node.held[uid("b")]
    assert node.only() == ("xds", "desired", "resources", uid("b"), "unplanned", "")


def test_what_was_refused_is_told_with_the_reason() -> None:
    node = Node()
    node.send("bad", Rejected("bad", "it has no address"))
    assert node.diff() == []
    node.refused["bad"] = "it has no address"
    assert node.only() == ("xds", "desired", "resources", "bad", "rejected", "it has no address")


def test_policies_that_are_not_in_force() -> None:
    node = Node()
    node.policies.clear()
    assert node.only() == ("xds", "desired", "resources", POLICY.key, "unplanned", "")


def test_what_is_not_planned_yet() -> None:
    node = Node()
    node.send(uid("b"), workload("b", "10.1.0.77", of=WEB))
    node.steer.put([(uid("b"), workload("b", "10.1.0.77", of=WEB))])
    found = {each[:5] for each in node.diff()}
    assert ("desired", "planned", VIP, f"10.9.0.1 of {WEB}", "waiting") in found
    assert {each[0] for each in found} == {"desired"}
    node.settle()
    assert node.diff() == []


def test_before_the_first_answer_is_whole() -> None:
    node = Node()
    node.steer.started = False
    assert ("xds", "planned", VIP, "every service", "waiting") in {e[:5] for e in node.diff()}


def test_a_plan_that_is_not_what_is_desired() -> None:
    node = Node()
    planner = node.steer.planner
    key = next(key for key in planner.records if key[20:22] == (80).to_bytes(2, "little"))
    realised = planner.records[key]
    raw = planner.records.raw[key]
    row = node.kernel.tables[VIP][key]
    planner.records[key] = Realised(realised.target._replace(port=1), realised.segment)
    found = {(each.first, each.second, each.what, each.kind) for each in node.diff()}
    assert ("desired", "planned", describe(node.steer, VIP, key), "altered") in found
    planner.records[key] = realised
    planner._forget(key)
    del planner.records[key]
    del node.kernel.tables[VIP][key]
    assert node.only()[:2] + node.only()[4:] == ("desired", "planned", "missing", "")
    other = key[:20] + (81).to_bytes(2, "little") + key[22:]
    planner._keep(key, raw, frontend_of(key))
    planner._keep(other, raw, frontend_of(other))
    node.kernel.tables[VIP] |= {key: row}
    kinds = {(each.first, each.kind) for each in node.diff()}
    assert kinds == {("desired", "unplanned"), ("planned", "missing")}


def test_what_fails_says_why() -> None:
    node = Node()
    node.steer.fail((addr.parse("10.9.0.1"), 128), "km_vip is full", 0.0)
    node.steer.fail(COOKIE, "no room", 0.0)
    assert [each[2:] for each in node.diff()] == [
        (VIP, f"10.9.0.1 of {WEB}", "failing", "km_vip is full"),
        ("pods", uid("a"), "failing", "no room"),
    ]


def test_an_enrolment_that_nobody_wants() -> None:
    node = Node()
    del node.steer.pods.wanted[COOKIE]
    found = [each for each in node.diff() if each.second == "planned"]
    assert {(each.table, each.kind) for each in found} == {
        (ENROL, "unplanned"), (POD, "unplanned"), (GUARD, "unplanned"), (OWN, "unplanned"),
        (LINK, "unplanned"),
    }  # fmt: skip


def test_a_pod_that_is_closed_says_why() -> None:
    node = Node()
    node.send(uid("a"), workload("a", "10.1.0.1", of=WEB)._replace(policies=("default/later",)))
    node.steer.put([(uid("a"), node.held[uid("a")].value)])  # type: ignore[list-item]
    node.settle()
    (found,) = [each for each in node.diff() if each.kind == "closed"]
    assert (found.table, found.what) == (GUARD, uid("a"))
    assert found.why == "waiting for default/later"


def altered(*ports: int) -> Authorization:
    rule = RULE._replace(destination_ports=ports)
    return POLICY._replace(rules=(((rule,),),))


def policies(node: Node) -> list[tuple[str, ...]]:
    """What differs between desired and planned about policies, without the reason."""
    return [each[2:5] for each in node.diff() if each.second == "planned"]


def test_policies_that_are_planned_otherwise() -> None:
    node, other = Node(), POLICY._replace(key="default/q")
    guards = node.steer.guards
    pod = uid("a")
    cases: tuple[tuple[str, Authorization | None, str], ...] = (
        (POLICY.key, altered(81), "altered"),
        (POLICY.key, None, "unplanned"),
        (other.key, other, "missing"),
    )
    for name, put, kind in cases:
        before = guards.index.policies.get(name)
        node.say(name, put)
        found = [each for each in node.diff() if each.second == "planned"]
        assert found == [Apart("desired", "planned", "policies", f"{name} of {pod}", kind,
                               "the writer has not come to it yet")]  # fmt: skip
        guards.slices.failing = "km_match: no space"
        found = [each for each in node.diff() if each.second == "planned"]
        assert [each.why for each in found] == [guards.slices.failing]
        guards.slices.failing = ""
        node.settle()
        assert node.diff() == []
        node.say(name, before)
        node.settle()
        assert node.diff() == []


def test_what_guards_a_pod_is_compared_row_by_row() -> None:
    node = Node()
    guards, key = node.steer.guards, COOKIE.to_bytes(8, "little")
    at, pod = f"10.1.0.1 of {uid('a')}", f"{uid('a')} (namespace {COOKIE})"
    address = addr.parse("10.1.0.1")
    guards.place(COOKIE, (4).to_bytes(4, "little"))
    node.settle()
    every: tuple[tuple[dict[Any, bytes], Any, str, str], ...] = (
        (guards.records.rows, address, GUARD, at),
        (guards.own.rows, key, OWN, pod),
        (guards.peers.rows, address, PEER, at),
        (guards.places.links, COOKIE, LINK, pod),
    )
    for rows, mine, table, name in every:
        value = rows.pop(mine)
        assert policies(node) == [(table, name, "missing")]
        rows[mine] = value[:-1] + b"\7"
        assert policies(node) == [(table, name, "altered")]
        rows[mine] = value
        assert node.diff() == []
    more: tuple[tuple[dict[Any, bytes], Any, str, str], ...] = (
        (guards.records.rows, addr.parse("10.1.0.99"), GUARD, "10.1.0.99"),
        (guards.own.rows, bytes(8), OWN, "nobody's (namespace 0)"),
        (guards.peers.rows, addr.parse("10.1.0.99"), PEER, "10.1.0.99"),
        (guards.places.links, 9, LINK, "nobody's (namespace 9)"),
    )
    for rows, extra, table, name in more:
        rows[extra] = b"-"
        assert policies(node) == [(table, name, "unplanned")]
        del rows[extra]
    (cidr,) = guards.exempt.there
    guards.exempt.there = set()
    assert policies(node) == [(EXEMPT, "10.7.0.0/24", "missing")]
    guards.exempt.there = {cidr, (addr.parse("10.8.0.0"), 120)}
    assert policies(node) == [(EXEMPT, "10.8.0.0/24", "unplanned")]


def test_policies_before_their_first_answer_is_whole() -> None:
    node = Node()
    node.steer.guards.started = False
    (found,) = [each for each in node.diff() if each.second == "planned"]
    assert (found.table, found.what, found.kind) == ("policies", "all", "waiting")


def test_sets_that_rest_before_they_are_dropped_are_no_difference() -> None:
    node = Node()
    guards, changed = node.steer.guards, altered(81)
    node.say(POLICY.key, changed)
    slices(node.steer, node.kernel, node.now)
    assert guards.idle()
    assert not guards.settled()
    assert node.diff() == []
    rows = node.kernel.tables[MATCH]
    mine = sorted(guards.sets.rules[Content([changed])].values)
    key = next(key for table, key in mine if table == MATCH)
    del rows[key]
    assert node.only()[:3] + node.only()[4:5] == ("planned", "kernel", MATCH, "missing")


@pytest.mark.parametrize("table", [VIP, CIDR, ENROL, POD, GUARD])
def test_a_row_that_the_kernel_has_lost_or_altered(table: str) -> None:
    node = Node()
    rows = node.kernel.tables[table]
    key = sorted(rows)[0]
    value = rows.pop(key)
    what = describe(node.steer, table, key)
    assert ("planned", "kernel", table, what, "missing", "") in node.diff()
    rows[key] = bytes([value[0] ^ 1]) + value[1:]
    assert node.only() == ("planned", "kernel", table, what, "altered", "")
    rows[key] = value
    assert node.diff() == []


def test_every_table_has_words_for_its_rows() -> None:
    node = Node()
    said = {
        picture.table: describe(node.steer, picture.table, key)
        for picture in pictures(node.steer)
        for key in sorted(picture.keys())[:1]
    }
    assert said["km_enrol"] == f"{uid('a')} (namespace {COOKIE})"
    assert said["km_guard"] == f"10.1.0.1 of {uid('a')}"
    assert said["km_exempt"] == "10.7.0.0/24"
    assert said["km_policy"] == POLICY.key
    assert said["km_verdict"] == "no policy: allowed"
    assert said["km_cidr"] == "10.9.1.0/24"
    assert said["km_prefix"].startswith("set 1: 10.1.0.0/24")
    assert describe(node.steer, "km_other", b"\1\2") == "0102"
    names = {describe(node.steer, VIP, key) for key in node.steer.planner.records}
    assert PORT_80 in names
    assert f"10.9.0.1 other ports of {WEB}" in names


def test_a_slice_never_compares_more_than_it_may() -> None:
    """However many resources there are."""
    node = Node()
    for number in range(1000):
        value = workload(f"w{number}", f"10.2.{number >> 8}.{number & 255}")
        node.send(value.uid, value)
    node.steer.put([(n, r.value) for n, r in node.held.items()])  # type: ignore[misc]
    node.steer.put([(WEB, service(WEB, "10.9.0.1", "10.9.1.0/24"))])
    node.settle()
    wanted = Wanted(node.held, node.policies, {}, lambda: False)
    steps = list(compare(node.steer, node.kernel, wanted))
    assert max(step.looked for step in steps) <= 256
    assert sum(step.looked for step in steps if step.sort == "resources") == len(node.held) + 1
