"""Rows of one address: which service is meant, which clients differ, what is refused and why."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest

from kmesh.abi.layout import Reason, VipAction, VipKey
from kmesh.core import addr
from kmesh.core.ids import Ids
from kmesh.core.model import Gateway, Mode, Scope, Service, Visibility, Workload
from kmesh.core.render import VIEWS, Render, Rows, Target, View, choose
from kmesh.core.store import Store
from tests.core.meshes import DB, FAR, HOME, OTHER, WEB, service, vip, workload

VIP, VIP6 = "10.9.0.1", "fd09::1"
WAYPOINT = Gateway(hostname="default/waypoint")


class Place(NamedTuple):
    """Where a row is, decoded."""

    view: int
    port: int


def render(
    *resources: Workload | Service,
    dial: str = VIP,
    views: dict[int, View] | None = None,
    bypass: bool = False,
) -> dict[Place, Target]:
    """Rows of one address by view and port; service ids are 1, 2, … in order of the keys."""
    store = Store(HOME.network, HOME.cluster, HOME.node)
    store.apply([(r.key if isinstance(r, Service) else r.uid, r) for r in resources])
    store.home = HOME
    keys = sorted(r.key for r in resources if isinstance(r, Service))
    ids = Ids()
    made = Render(store, lambda key: keys.index(key) + 1, ids.get, bypass)
    where = vip(dial)
    rows = made.rows((where.addr, where.plen), views or {})
    return decoded(rows, where.addr, where.plen)


def decoded(rows: Rows, base: bytes, plen: int) -> dict[Place, Target]:
    found = {}
    for raw, target in rows.items():
        key = VipKey.unpack(raw)
        assert (key.addr, key.plen, key.zero) == (base, plen, 0)
        found[Place(key.view, key.port)] = target
    return found


def endpoint(target: Target) -> str:
    """The address in a record of one slot."""
    assert target.action is VipAction.BALANCE
    assert len(target.slots) == 24
    return addr.text(target.slots[:16])


# Which service


def test_an_address_that_no_service_has_gives_no_rows() -> None:
    assert render(service(WEB, "10.9.0.2")) == {}
    elsewhere = service(WEB)._replace(vips=(vip(VIP, network="other"),))
    assert render(elsewhere) == {}, "a VIP of another network is not ours"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_own_namespace_then_canonical_then_the_smallest_key(order: tuple[int, ...]) -> None:
    services = [
        service("a/plain", VIP),
        service("b/canonical", VIP, canonical=True),
        service("c/canonical", VIP, canonical=True),
        service("d/plain", VIP),
    ]
    shuffled = [services[i] for i in order]
    assert choose(shuffled, "") is services[1]
    assert choose(shuffled, "d") is services[3]
    assert choose(shuffled, "c") is services[2]
    assert choose(shuffled[:0], "") is None


def test_in_one_namespace_canonical_comes_before_the_smallest_key() -> None:
    services = [service("a/x", VIP), service("a/y", VIP, canonical=True)]
    assert choose(services, "a") is services[1]


def test_invisible_services_are_not_candidates() -> None:
    private = service("a/x", VIP, visibility=Visibility.NAMESPACE, canonical=True)
    public = service("b/y", VIP)
    assert choose([private, public], "") is public
    assert choose([private, public], "c") is public
    assert choose([private, public], "a") is private
    assert choose([private], "c") is None


# What is answered


def test_each_port_has_a_row_and_every_other_port_is_refused() -> None:
    rows = render(
        service(WEB, VIP, ports=((80, 8080), (443, 8443))), workload("a", "10.1.0.1", of=WEB)
    )
    assert rows.keys() == {Place(0, 80), Place(0, 443), Place(0, 0)}
    assert rows[Place(0, 0)] == Target(VipAction.REFUSE, Reason.UNKNOWN_PORT, 1)
    assert [rows[Place(0, port)].port for port in (80, 443)] == [8080, 8443]
    assert {row.reason for place, row in rows.items() if place.port} == {Reason.BALANCED}


def test_a_service_without_endpoints_is_refused_at_its_ports() -> None:
    rows = render(service(WEB, VIP))
    assert rows[Place(0, 80)] == Target(VipAction.REFUSE, Reason.NO_ENDPOINT, 1)
    assert rows[Place(0, 0)].reason is Reason.UNKNOWN_PORT


def test_passthrough_leaves_every_port_alone() -> None:
    rows = render(service(WEB, VIP, mode=Mode.PASSTHROUGH), workload("a", "10.1.0.1", of=WEB))
    assert rows == {Place(0, 0): Target(VipAction.PASS, Reason.PASSTHROUGH, 1)}


def test_a_waypoint_is_refused_unless_bypassed() -> None:
    mesh = (service(WEB, VIP, waypoint=WAYPOINT), workload("a", "10.1.0.1", of=WEB))
    assert render(*mesh) == {Place(0, 0): Target(VipAction.REFUSE, Reason.WAYPOINT, 1)}
    assert endpoint(render(*mesh, bypass=True)[Place(0, 80)]) == "10.1.0.1"


def test_a_waypoint_comes_before_passthrough() -> None:
    rows = render(service(WEB, VIP, waypoint=WAYPOINT, mode=Mode.PASSTHROUGH))
    assert rows[Place(0, 0)].reason is Reason.WAYPOINT


def test_strict_with_nothing_local_is_refused() -> None:
    one = service(WEB, VIP, mode=Mode.STRICT, preference=(Scope.NODE,))
    rows = render(one, workload("a", "10.1.0.1", of=WEB, profile=FAR))
    assert rows[Place(0, 80)].reason is Reason.STRICT_NO_LOCAL


def test_each_family_s_vip_leads_to_its_own_address() -> None:
    mesh = (service(WEB, VIP, VIP6), workload("a", "10.1.0.1", "fd01::1", of=WEB))
    assert endpoint(render(*mesh)[Place(0, 80)]) == "10.1.0.1"
    assert endpoint(render(*mesh, dial=VIP6)[Place(0, 80)]) == "fd01::1"


def test_a_cidr_has_rows_of_its_own_and_no_dialled_address() -> None:
    base = "10.9.0.0"
    mesh = (service(WEB, f"{base}/24"), workload("a", "10.1.0.1", base, of=WEB))
    assert endpoint(render(*mesh, dial=f"{base}/24")[Place(0, 80)]) == "10.1.0.1"
    assert render(*mesh, dial=base) == {}


# Views


def test_a_plain_service_is_the_same_for_everybody() -> None:
    views = {1: View("other", FAR), 2: View("default", HOME)}
    rows = render(service(WEB, VIP), workload("a", "10.1.0.1", of=WEB), views=views)
    assert {place.view for place in rows} == {0}
    assert {row.flags for row in rows.values()} == {0}


def test_a_client_elsewhere_has_rows_of_its_own_where_the_place_matters() -> None:
    one = service(WEB, VIP, mode=Mode.FAILOVER, preference=(Scope.REGION,))
    near = workload("a", "10.1.0.1", of=WEB)
    far = workload("b", "10.1.0.2", of=WEB, profile=FAR)
    rows = render(one, near, far, views={7: View("default", FAR), 8: View("default", HOME)})
    assert rows.keys() == {Place(0, 0), Place(0, 80), Place(7, 80)}
    assert endpoint(rows[Place(0, 80)]) == "10.1.0.1"
    assert endpoint(rows[Place(7, 80)]) == "10.1.0.2"
    assert rows[Place(0, 80)].flags == VIEWS
    assert rows[Place(7, 80)].flags == 0
    assert rows[Place(0, 0)].flags == 0, "equal answers need no own row"


def test_a_client_meets_the_service_of_its_own_namespace() -> None:
    mesh = (
        service(WEB, VIP, ports=((80, 1), (443, 1))),
        workload("a", "10.1.0.1", of=WEB),
        service(OTHER, VIP, ports=((80, 2), (90, 2))),
        workload("b", "10.1.0.2", of=OTHER, namespace="other"),
    )
    rows = render(*mesh, views={3: View("other", HOME), 4: View("third", HOME)})
    assert endpoint(rows[Place(0, 80)]) == "10.1.0.1"
    assert endpoint(rows[Place(3, 80)]) == "10.1.0.2"
    assert endpoint(rows[Place(3, 90)]) == "10.1.0.2"
    # Ports that only one of the two services has: the other's clients are refused.
    assert rows[Place(0, 90)].reason is Reason.UNKNOWN_PORT
    assert rows[Place(3, 443)].reason is Reason.UNKNOWN_PORT
    assert rows[Place(3, 443)].service != rows[Place(0, 90)].service
    assert {place.view for place in rows} == {0, 3}


def test_a_namespace_s_private_service_is_left_alone_for_all_others() -> None:
    private = service(OTHER, VIP, visibility=Visibility.NAMESPACE)
    member = workload("b", "10.1.0.2", of=OTHER, namespace="other")
    rows = render(private, member, views={3: View("other", HOME), 4: View("third", HOME)})
    assert rows[Place(0, 80)]._replace(flags=0) == Target(VipAction.PASS, Reason.INVISIBLE, 0)
    assert rows[Place(0, 0)].flags == rows[Place(0, 80)].flags == VIEWS
    assert endpoint(rows[Place(3, 80)]) == "10.1.0.2"
    assert rows[Place(3, 0)].reason is Reason.UNKNOWN_PORT
    assert {place.view for place in rows} == {0, 3}


def test_without_a_client_in_its_namespace_a_private_service_is_one_row() -> None:
    private = service(DB, VIP, visibility=Visibility.NAMESPACE)
    assert render(private) == {Place(0, 0): Target(VipAction.PASS, Reason.INVISIBLE, 0)}
