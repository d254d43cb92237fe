"""kmesh why says what the planner does, on every layer, and finds the layer that differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.abi.layout import Reason
from kmesh.bpf.answers import Copy
from kmesh.bpf.fake import FakeKernel
from kmesh.bpf.fake_guard import Decision
from kmesh.cli.why import text
from kmesh.core import addr
from kmesh.core.commands import VIP
from kmesh.core.endpoint_why import candidates
from kmesh.core.lookup import in_kernel
from kmesh.core.model import Action, Mode, Scope
from kmesh.core.route_names import UnknownEnd, ends, split
from kmesh.core.route_why import route
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from kmesh.tasks.why import explain
from tests.core.meshes import (
    FAR,
    HOME,
    NEAR,
    WEB,
    changes,
    service,
    uid,
    workload,
)
from tests.core.test_audit import POLICY, RULE, Rig

if TYPE_CHECKING:
    from kmesh.core.model import Authorization, Service, Workload

Items = list[tuple[str, "Workload | Service | None"]]
PORTS = (80, 443, 81)
POLICIES = [
    POLICY._replace(key=f"default/{i}", action=action, rules=(((rule,),),))
    for i, (action, rule) in enumerate(
        (action, rule)
        for action in (Action.ALLOW, Action.DENY)
        for rule in (RULE, RULE._replace(namespaces=()), RULE._replace(destination_ports=(81,)))
    )
]


class Node:
    """A steering whose plans lie in a fake kernel."""

    def __init__(self, items: Items, pods: dict[int, str] | None = None) -> None:
        self.kernel = FakeKernel(1 << 12, 1 << 12)
        self.steering = Steering(Store("", "Kubernetes", "n1"), Segments(1 << 12), 1 << 12)
        self.steering.put(items)
        for cookie, name in (pods or {}).items():
            self.steering.enrol(cookie, name)
        self.steering.start()
        self.settle()

    def settle(self) -> None:
        for _ in range(1000):
            ops = self.steering.next_ops(0.0)
            if not ops and self.steering.idle():
                return
            self.steering.report(ops, self.kernel.apply(ops), 0.0)
        raise AssertionError("it never settles")

    def copy(self) -> Copy:
        return Copy(self.kernel.tables, bytes(self.kernel.slots), bytes(self.kernel.rows))

    def why(self, source: str, destination: str) -> dict[str, Any]:
        return explain(self.steering, self.copy(), source, destination)


@given(
    st.lists(changes, max_size=12),
    st.sampled_from([uid(name, ns) for name in "ab" for ns in ("default", "other")]),
    st.sampled_from(["10.9.0.1", "10.9.0.2", "fd09::1", "10.9.0.77", "10.1.0.1"]),
    st.sampled_from(PORTS),
)
@settings(deadline=None)
def test_what_is_said_is_what_the_kernel_does_and_no_layer_differs(
    items: Items, client: str, dialled: str, port: int
) -> None:
    node = Node(items, {7: client})
    known = node.steering.store.workloads.get(client)
    raw = addr.parse(dialled)
    asked = ends(node.steering, "10.77.0.1", dialled, port)
    if known is not None:
        asked = asked._replace(client=known, cookie=7)
    found = route(node.steering, node.copy(), asked)
    assert found.differs is None, found
    view = node.steering.pods.rows[7].view if asked.cookie else 0
    met = node.kernel.endpoints(raw, port, view)
    if isinstance(met, Decision):
        assert found.kernel is not None
        assert found.kernel.reason == met.reason
        assert not found.kernel.endpoints
    else:
        places = {(each.addr, each.port) for each in met}
        assert set(found.desired.endpoints) == places
    if found.desired.action == "balance":
        chosen = {(each.addr, each.port) for each in found.candidates if each.chosen}
        assert chosen == set(found.desired.endpoints)
    elif found.service and found.target is not None and not found.service.waypoint:
        passes = found.service.mode is Mode.PASSTHROUGH
        assert passes or not any(each.chosen for each in found.candidates)


def test_each_endpoint_has_its_reason() -> None:
    one = service(WEB, "10.9.0.1", mode=Mode.FAILOVER, preference=(Scope.REGION, Scope.ZONE))
    members = (
        workload("near", "10.1.0.1", of=WEB, profile=NEAR),
        workload("far", "10.1.0.2", of=WEB, profile=FAR),
        workload("ill", "10.1.0.3", of=WEB, healthy=False),
        workload("six", "fd01::1", of=WEB),
        workload("none", of=WEB),
        workload("away", "10.1.0.4", of=WEB, profile=NEAR._replace(network="n2")),
        workload("portless", "10.1.0.5", of=WEB, ports=((80, 0),)),
        workload("idle", "10.1.0.6", of=WEB, profile=NEAR, capacity=0),
    )
    store = Store("", "Kubernetes", "n1")
    store.apply([(one.key, one), *((each.uid, each) for each in members)])
    found = candidates(store, one, (addr.parse("10.9.0.1"), 128), HOME, one.ports[0])
    said = {each.uid.rpartition("/")[2]: each.why for each in found}
    assert said == {
        "near": "chosen",
        "far": "farther away than others",
        "ill": "unhealthy",
        "six": "has no address that IPv4 can use",
        "none": "has no address",
        "away": "on another network: n2",
        "portless": "has no target for port 80",
        "idle": "its weight is 0",
    }


def mesh() -> Node:
    return Node(
        [
            (WEB, service(WEB, "10.9.0.1", ports=((80, 8080), (443, 8443)))),
            *((w.uid, w) for w in (
                workload("a", "10.1.0.1", of=WEB), workload("b", "10.1.0.2", of=WEB),
                workload("client", "10.1.0.3"),
            )),
        ],
        {7: uid("client")},
    )  # fmt: skip


def test_a_record_that_is_missing_in_the_kernel_is_found() -> None:
    node = mesh()
    assert node.why("default/client", "10.9.0.1:80")["differs"] is None
    for key in [*node.kernel.tables[VIP]]:
        del node.kernel.tables[VIP][key]
    found = node.why("default/client", "10.9.0.1:80")
    assert found["differs"]["layer"] == "kernel"
    assert found["layers"]["kernel"]["reason"] == "not_mesh"
    assert found["allowed"]


def test_a_damaged_record_and_a_foreign_segment_are_what_the_programs_see() -> None:
    node = mesh()
    node.kernel.slots[:] = bytes(len(node.kernel.slots))
    found = node.why("default/client", "10.9.0.1:80")
    assert found["layers"]["kernel"] == {
        "action": "refuse", "reason": "inconsistent", "endpoints": []
    }  # fmt: skip
    key, value = next(iter(node.kernel.tables[VIP].items()))
    node.kernel.tables[VIP][key] = value[:-1] + bytes([value[-1] ^ 1])
    raw = addr.parse("10.9.0.1")
    assert in_kernel(node.copy(), raw, 80, 0).reason is Reason.INCONSISTENT


def test_what_is_not_written_yet_is_said() -> None:
    node = mesh()
    node.steering.put([(uid("a"), None)])
    found = node.why("default/client", "10.9.0.1:80")
    assert found["differs"] == {"layer": "planned", "what": "the writer has not come to it yet"}
    assert [each["workload"] for each in found["endpoints"]] == [uid("b")]
    node.settle()
    assert node.why("default/client", "10.9.0.1:80")["differs"] is None


def test_policies_are_asked_on_every_layer() -> None:
    rig = Rig()
    rig.steer.put_policies([(POLICY.key, POLICY._replace(rules=(((RULE,),),)))])
    rig.settle()
    kernel = Copy(rig.kernel.tables, b"", bytes(rig.kernel.rows))
    asked = (rig.steer, kernel, "10.1.0.2", "10.1.0.1:80")
    agreed = explain(*asked)
    assert (agreed["allowed"], agreed["differs"]) == (True, None)
    assert agreed["admission"][0]["planned"] == {"reason": "allowed", "policy": POLICY.key}
    rig.steer.put_policies([(POLICY.key, POLICY._replace(action=Action.DENY))])
    waiting = explain(*asked)
    assert waiting["reason"] == "denied"
    assert waiting["differs"] == {
        "layer": "planned", "what": f"the policies of {uid('a')} say allowed instead of denied",
    }  # fmt: skip
    rig.steer.put_policies([(POLICY.key, POLICY)])
    rig.settle()
    rig.kernel.tables["km_match"].clear()
    lost = explain(*asked)
    assert lost["differs"]["layer"] == "kernel"
    assert "; kernel: not allowed" in text(lost)
    rig.steer.guards.records.rows.clear()
    assert explain(*asked)["admission"][0]["planned"]["reason"] == "unlisted"


@given(policies=st.lists(st.sampled_from(POLICIES), max_size=4, unique_by=lambda p: p.key))
@settings(deadline=None, max_examples=30)
def test_what_is_planned_decides_as_the_kernel_does(policies: list[Authorization]) -> None:
    rig = Rig()
    rig.steer.put_policies([(POLICY.key, None), *((each.key, each) for each in policies)])
    rig.settle()
    kernel = Copy(rig.kernel.tables, b"", bytes(rig.kernel.rows))
    for source in ("10.1.0.1", "10.1.0.2", "10.7.0.9", "10.3.0.1", "127.0.0.1"):
        for port in (80, 81):
            found = explain(rig.steer, kernel, source, f"10.1.0.1:{port}")
            assert found["differs"] is None
            (said,) = found["admission"]
            assert said["planned"] == said["kernel"]
            assert said["reason"] == said["kernel"]["reason"]


def test_names_lead_to_addresses() -> None:
    node = mesh()
    cart = "shop/cart.shop.svc.cluster.local"
    node.steering.put([(cart, service(cart, "10.9.0.2"))])
    node.settle()
    for name in ("shop/cart", "cart.shop", "cart.shop.svc.cluster.local", cart, "10.9.0.2"):
        assert node.why(uid("client"), f"{name}:80")["frontend"]["service"] == cart
    assert node.why(uid("client"), f"{WEB}:80")["frontend"]["service"] == WEB
    for wrong in ("nobody.default:80", "10.9.0.1", "10.9.0.1:x", "10.9.0.1:0"):
        with pytest.raises(UnknownEnd):
            node.why("default/client", wrong)
    with pytest.raises(UnknownEnd):
        node.why("default/nobody", "10.9.0.1:80")
    assert node.why("client", f"{WEB}:80")["source"]["workload"] == uid("client")
    elsewhere = "Kubernetes//Pod/other/client"
    node.steering.put([(elsewhere, workload(elsewhere, "10.1.7.7"))])
    with pytest.raises(UnknownEnd, match="2 pods are called client: default/client, other/client"):
        node.why("client", f"{WEB}:80")


def test_a_destination_outside_of_the_mesh_is_left_alone() -> None:
    found = mesh().why("default/client", "10.55.0.1:80")
    assert (found["allowed"], found["reason"], found["frontend"]) == (True, "not_mesh", None)
    assert found["differs"] is None
    assert "  The destination is not in the mesh: the connection was left alone." in text(found)


def test_what_is_refused_says_what_to_do() -> None:
    node = mesh()
    node.steering.put([(WEB, service(WEB, "10.9.0.1"))])
    node.settle()
    shown = text(node.why("default/client", "10.9.0.1:81"))
    assert shown.splitlines()[-3:] == [
        "denied: unknown port",
        "  The address is that of a service, the port is not one of its ports: refused.",
        "  Check the ports of the Service.",
    ]


def test_an_unknown_port_is_refused_and_an_only_port_need_not_be_said() -> None:
    node = mesh()
    found = node.why("default/client", "10.9.0.1:81")
    assert (found["allowed"], found["reason"]) == (False, "unknown_port")
    assert found["port"] == {"service": 81, "known": False, "target": None}
    node.steering.put([(WEB, service(WEB, "10.9.0.1"))])
    node.settle()
    assert node.why("default/client", "10.9.0.1")["port"]["target"] == 8080


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("[fd00::1]:80", "fd00::1", 80),
        ("fd00::1", "fd00::1", None),
        ("[fd00::1]", "fd00::1", None),
        ("web.shop:80", "web.shop", 80),
        ("web.shop", "web.shop", None),
    ],
)
def test_hosts_and_ports(text: str, host: str, port: int | None) -> None:
    assert split(text) == (host, port)
