"""Endpoint selection: each stage of the contract, their order, and weights."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.abi.layout import SLOT_SIZE, Reason, Slot
from kmesh.core import addr
from kmesh.core.endpoints import MOST_SLOTS, apportion
from kmesh.core.ids import Ids
from kmesh.core.model import Families, Mode, Scope, Service, Trait, Workload
from kmesh.core.render import Render, Target
from kmesh.core.store import Store
from tests.core.meshes import FAR, HOME, NEAR, WEB, service, vip, workload

VIP4, VIP6 = "10.9.0.1", "fd09::1"
REGIONAL = (Scope.REGION,)


def target(one: Service, *members: Workload, dial: str = VIP4, port: int = 80) -> Target:
    """The record that a client at HOME meets."""
    store = Store(HOME.network, HOME.cluster, HOME.node)
    store.home = HOME
    store.apply([(one.key, one), *((w.uid, w) for w in members)])
    store.home = HOME  # the members must not decide where the client is
    ids = Ids()
    rows = Render(store, lambda _: 1, ids.get).rows((addr.parse(dial), 128), {})
    key = addr.parse(dial) + bytes(4) + port.to_bytes(2, "little") + bytes((128, 0))
    return rows[key]


def slots(found: Target) -> list[Slot]:
    raw = found.slots
    return [Slot.unpack(raw[i : i + SLOT_SIZE]) for i in range(0, len(raw), SLOT_SIZE)]


def chosen(found: Target) -> dict[str, int]:
    """Endpoint as ``address:port`` to its number of slots."""
    return dict(Counter(addr.host_port(s.addr, found.port or s.port) for s in slots(found)))


def refused(found: Target) -> Reason:
    assert not found.slots
    return found.reason


def web(**more: object) -> Service:
    return service(WEB, VIP4, VIP6, **more)  # type: ignore[arg-type]


# Ports


def test_the_service_s_target_port_is_shared_by_all_slots() -> None:
    found = target(web(), workload("a", "10.1.0.1", of=WEB), workload("b", "10.1.0.2", of=WEB))
    assert found.port == 8080
    assert [slot.port for slot in slots(found)] == [0, 0]
    assert chosen(found) == {"10.1.0.1:8080": 1, "10.1.0.2:8080": 1}


def test_a_workload_s_own_mapping_wins() -> None:
    own = workload("a", "10.1.0.1", of=WEB, ports=((80, 9000),))
    found = target(web(), own, workload("b", "10.1.0.2", of=WEB))
    assert found.port == 0
    assert chosen(found) == {"10.1.0.1:9000": 1, "10.1.0.2:8080": 1}


def test_a_mapping_of_another_port_or_another_service_says_nothing() -> None:
    other = workload("a", "10.1.0.1", of=WEB, ports=((443, 9000),))
    assert chosen(target(web(), other)) == {"10.1.0.1:8080": 1}
    both = workload("a", "10.1.0.1", of=("default/db", WEB))
    first = both.memberships[0]._replace(ports=((80, 9000),))  # type: ignore[arg-type]
    both = both._replace(memberships=(first, both.memberships[1]))
    assert chosen(target(web(), both)) == {"10.1.0.1:8080": 1}


def test_a_named_port_needs_the_endpoint_s_mapping() -> None:
    named = web(ports=((80, 0),))
    mapped = workload("a", "10.1.0.1", of=WEB, ports=((80, 9000),))
    unmapped = workload("b", "10.1.0.2", of=WEB)
    assert chosen(target(named, mapped, unmapped)) == {"10.1.0.1:9000": 1}
    assert refused(target(named, unmapped)) is Reason.NO_ENDPOINT


def test_an_application_tunnel_is_no_port_of_its_own() -> None:
    tunnelled = workload("a", "10.1.0.1", of=WEB, tunnel_port=15088)
    assert refused(target(web(ports=((80, 0),)), tunnelled)) is Reason.NO_ENDPOINT
    assert chosen(target(web(), tunnelled)) == {"10.1.0.1:8080": 1}


def test_each_port_has_its_own_targets() -> None:
    two = web(ports=((80, 8080), (443, 8443)))
    member = workload("a", "10.1.0.1", of=WEB, ports=((443, 9443),))
    assert chosen(target(two, member, port=80)) == {"10.1.0.1:8080": 1}
    assert chosen(target(two, member, port=443)) == {"10.1.0.1:9443": 1}


# Health, reachability, ownership


def test_unhealthy_endpoints_are_left_out_unless_the_service_allows_all() -> None:
    members = (
        workload("a", "10.1.0.1", of=WEB),
        workload("b", "10.1.0.2", of=WEB, healthy=False),
    )
    assert chosen(target(web(), *members)) == {"10.1.0.1:8080": 1}
    assert len(chosen(target(web(allow_unhealthy=True), *members))) == 2
    assert refused(target(web(), members[1])) is Reason.NO_ENDPOINT


def test_an_endpoint_of_another_network_is_left_out() -> None:
    there = workload("a", "10.1.0.1", of=WEB, profile=HOME._replace(network="other"))
    assert refused(target(web(), there)) is Reason.NO_ENDPOINT
    assert chosen(target(web(), there, workload("b", "10.1.0.1", of=WEB))) == {"10.1.0.1:8080": 1}


def test_an_endpoint_without_address_is_left_out() -> None:
    assert refused(target(web(), workload("a", of=WEB))) is Reason.NO_ENDPOINT


def test_a_stale_pod_s_address_belongs_to_the_new_pod() -> None:
    stale, new = workload("old", "10.1.0.1", of=WEB), workload("new", "10.1.0.1", of="default/db")
    assert refused(target(web(), stale, new)) is Reason.NO_ENDPOINT
    assert chosen(target(web(), new, stale)) == {"10.1.0.1:8080": 1}, "the later one owns it"


def test_two_endpoints_that_are_no_pods_may_share_an_address() -> None:
    entries = [
        workload(name, "10.1.0.1", of=WEB, traits=Trait(0))._replace(uid=f"c/ServiceEntry/{name}")
        for name in "ab"
    ]
    assert chosen(target(web(), *entries)) == {"10.1.0.1:8080": 2}


def test_a_host_network_endpoint_keeps_its_node_s_address() -> None:
    host = Trait.POD | Trait.HOST_NETWORK
    members = [workload(name, "10.1.0.1", of=WEB, traits=host) for name in "ab"]
    assert chosen(target(web(), *members)) == {"10.1.0.1:8080": 2}


def test_a_host_network_endpoint_does_not_lose_its_address_to_pods() -> None:
    host = workload("host", "10.1.0.1", of=WEB, traits=Trait.POD | Trait.HOST_NETWORK)
    pods = [workload(name, "10.1.0.1") for name in "ab"]
    assert chosen(target(web(), host, *pods)) == {"10.1.0.1:8080": 1}


# Families


DUAL = workload("dual", "10.1.0.1", "fd01::1", of=WEB)


@pytest.mark.parametrize(
    ("families", "dial", "expected"),
    [
        (Families.AUTOMATIC, VIP4, "10.1.0.1:8080"),
        (Families.AUTOMATIC, VIP6, "[fd01::1]:8080"),
        (Families.DUAL, VIP4, "10.1.0.1:8080"),
        (Families.DUAL, VIP6, "[fd01::1]:8080"),
        (Families.IPV4_ONLY, VIP4, "10.1.0.1:8080"),
        (Families.IPV4_ONLY, VIP6, "10.1.0.1:8080"),
        (Families.IPV6_ONLY, VIP6, "[fd01::1]:8080"),
    ],
)
def test_the_first_allowed_address_of_the_dialled_family(
    families: Families, dial: str, expected: str
) -> None:
    assert chosen(target(web(families=families), DUAL, dial=dial)) == {expected: 1}


def test_an_ipv4_socket_cannot_reach_an_ipv6_endpoint() -> None:
    only6 = workload("a", "fd01::1", of=WEB)
    assert refused(target(web(), only6, dial=VIP4)) is Reason.FAMILY
    assert refused(target(web(families=Families.IPV6_ONLY), DUAL, dial=VIP4)) is Reason.FAMILY
    assert chosen(target(web(), only6, DUAL, dial=VIP4)) == {"10.1.0.1:8080": 1}


def test_families_leave_nothing_of_an_endpoint_of_the_other_one() -> None:
    only4 = workload("a", "10.1.0.1", of=WEB)
    assert refused(target(web(families=Families.IPV6_ONLY), only4, dial=VIP6)) is Reason.FAMILY


def test_of_several_addresses_the_first_is_used() -> None:
    many = workload("a", "fd01::1", "10.1.0.1", "10.1.0.2", of=WEB)
    assert chosen(target(web(), many)) == {"10.1.0.1:8080": 1}


def test_the_dialled_address_itself_is_preferred() -> None:
    own = workload("a", "10.1.0.1", VIP4, of=WEB)
    assert chosen(target(web(), own)) == {f"{VIP4}:8080": 1}
    assert chosen(target(web(families=Families.IPV6_ONLY), own)) == {f"{VIP4}:8080": 1}


# Rank


def place(one: Workload, **where: str) -> Workload:
    return one._replace(profile=one.profile._replace(**where))


A, B = workload("a", "10.1.0.1", of=WEB), workload("b", "10.1.0.2", of=WEB)
FAR_B = B._replace(profile=FAR)


def test_only_the_nearest_are_kept() -> None:
    for mode in (Mode.FAILOVER, Mode.STRICT):
        one = web(mode=mode, preference=REGIONAL)
        assert chosen(target(one, A, FAR_B)) == {"10.1.0.1:8080": 1}


def test_without_a_mode_the_preference_is_ignored() -> None:
    assert len(chosen(target(web(preference=REGIONAL), A, FAR_B))) == 2


def test_failover_goes_far_when_nothing_is_near_and_strict_refuses() -> None:
    failover = web(mode=Mode.FAILOVER, preference=REGIONAL)
    strict = web(mode=Mode.STRICT, preference=REGIONAL)
    assert chosen(target(failover, FAR_B)) == {"10.1.0.2:8080": 1}
    assert refused(target(strict, FAR_B)) is Reason.STRICT_NO_LOCAL


def test_strict_wants_every_scope_while_failover_takes_the_most() -> None:
    preference = (Scope.NETWORK, Scope.REGION, Scope.NODE)
    near = B._replace(profile=NEAR)
    assert chosen(target(web(mode=Mode.FAILOVER, preference=preference), near, FAR_B)) == {
        "10.1.0.2:8080": 1
    }
    strict = web(mode=Mode.STRICT, preference=preference)
    # With its bonus the near one has rank 4, more than the 3 scopes there are.
    assert refused(target(strict, near)) is Reason.STRICT_NO_LOCAL


def test_strict_without_preference_keeps_all() -> None:
    assert len(chosen(target(web(mode=Mode.STRICT), A, FAR_B))) == 2


# The order of the stages


def test_port_comes_before_rank() -> None:
    named = web(ports=((80, 0),), mode=Mode.FAILOVER, preference=REGIONAL)
    far = workload("b", "10.1.0.2", of=WEB, ports=((80, 9000),), profile=FAR)
    assert chosen(target(named, A, far)) == {"10.1.0.2:9000": 1}


def test_health_comes_before_rank() -> None:
    one = web(mode=Mode.FAILOVER, preference=REGIONAL)
    sick = workload("a", "10.1.0.1", of=WEB, healthy=False)
    assert chosen(target(one, sick, FAR_B)) == {"10.1.0.2:8080": 1}


def test_ownership_comes_before_rank() -> None:
    one = web(mode=Mode.FAILOVER, preference=REGIONAL)
    taker = workload("new", "10.1.0.1")
    assert chosen(target(one, A, FAR_B, taker)) == {"10.1.0.2:8080": 1}


def test_rank_comes_before_weight() -> None:
    """Capacity 0 near by is not a reason to go far."""
    one = web(mode=Mode.FAILOVER, preference=REGIONAL)
    assert refused(target(one, A._replace(capacity=0), FAR_B)) is Reason.NO_ENDPOINT


# Weights


def test_capacity_is_the_weight_and_zero_is_never() -> None:
    members = (
        A._replace(capacity=2),
        B._replace(capacity=4),
        workload("c", "10.1.0.3", of=WEB, capacity=0),
    )
    assert chosen(target(web(), *members)) == {"10.1.0.1:8080": 1, "10.1.0.2:8080": 2}


def test_equal_weights_take_one_slot_each() -> None:
    members = (A._replace(capacity=700), B._replace(capacity=700))
    assert chosen(target(web(), *members)) == {"10.1.0.1:8080": 1, "10.1.0.2:8080": 1}


def test_nothing_but_zeros_is_no_endpoint() -> None:
    assert refused(target(web(), A._replace(capacity=0))) is Reason.NO_ENDPOINT


def test_slots_do_not_depend_on_the_order_of_arrival_and_have_no_gen_yet() -> None:
    members = (A, B, workload("c", "10.1.0.3", of=WEB, capacity=3))
    store = Store()
    ids = {w.uid: number for number, w in enumerate(members, 1)}
    seen = set()
    for arrival in (members, members[::-1]):
        store = Store()
        store.apply([(w.uid, w) for w in arrival])
        store.apply([(WEB, web())])
        rows = Render(store, lambda _: 1, ids.__getitem__).rows((vip(VIP4).addr, 128), {})
        seen |= {row.slots for row in rows.values() if row.slots}
    assert len(seen) == 1
    assert {slot.gen for slot in slots(Target(1, 3, 1, 0, seen.pop()))} == {0}  # type: ignore[arg-type]


weights = st.lists(
    st.one_of(st.integers(0, 9), st.integers(0, 5000), st.integers(0, 2**32 - 1)),
    min_size=1,
    max_size=60,
).filter(any)


@settings(max_examples=400)
@given(weights)
def test_apportion_is_exact_up_to_the_bound_and_wrong_by_less_than_a_slot_beyond(
    given_weights: list[int],
) -> None:
    counts = apportion(given_weights)
    divisor = gcd(*given_weights)
    reduced = [weight // divisor for weight in given_weights]
    most = max(MOST_SLOTS, 4 * len(reduced))
    if sum(reduced) <= most:
        assert counts == reduced
        return
    raised = 0
    for weight, count in zip(reduced, counts, strict=True):
        share = Fraction(weight * most, sum(reduced))
        assert (count > 0) == (weight > 0)
        assert abs(count - share) < 1, (weight, count, float(share))
        raised += 0 < share < 1
    assert most <= sum(counts) <= most + raised


def test_a_tiny_weight_is_raised_to_one_slot_and_not_to_two() -> None:
    """1,000 shares of 4.0…1 and one of 0.9: what is left over goes to the others."""
    many = [40_959] * 100 + [900]
    counts = apportion(many)
    assert counts[-1] == 1
    assert sum(counts) == MOST_SLOTS


@settings(max_examples=200)
@given(weights)
def test_more_weight_never_means_fewer_slots(given_weights: list[int]) -> None:
    counts = apportion(given_weights)
    pairs = sorted(zip(given_weights, counts, strict=True))
    for (lighter, few), (heavier, many) in pairwise(pairs):
        assert lighter == heavier or few <= many
