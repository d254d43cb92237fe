"""The wanted mesh: arrival in any order, and what each change makes dirty."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.core import addr
from kmesh.core.model import Mode, Scope, Service, Trait, Visibility, Workload
from kmesh.core.store import Frontend, Store
from tests.core import meshes
from tests.core.meshes import DB, FAR, HOME, NEAR, OTHER, WEB, service, uid, vip, workload

VIP, SECOND = "10.9.0.1", "10.9.0.2"
RANKED = {"mode": Mode.FAILOVER, "preference": (Scope.REGION,)}


def frontend(text: str) -> Frontend:
    found = vip(text)
    return found.addr, found.plen


def put(store: Store, *resources: Workload | Service) -> set[Frontend]:
    """Frontends made dirty."""
    return set(store.apply([(r.key if isinstance(r, Service) else r.uid, r) for r in resources]))


def drop(store: Store, *names: str) -> set[Frontend]:
    return set(store.apply([(name, None) for name in names]))


def members(store: Store, key: str) -> set[str]:
    return set(store.members.get(key, {}))


def test_an_endpoint_may_come_before_its_service() -> None:
    store = Store()
    assert put(store, workload("a", "10.1.0.1", of=WEB)) == set()
    assert put(store, service(WEB, VIP)) == {frontend(VIP)}
    assert members(store, WEB) == {uid("a")}


def test_endpoints_stay_when_their_service_is_sent_again_or_goes() -> None:
    store = Store()
    put(store, service(WEB, VIP), workload("a", "10.1.0.1", of=WEB))
    assert put(store, service(WEB, VIP, ports=((90, 1),))) == {frontend(VIP)}
    assert members(store, WEB) == {uid("a")}
    assert drop(store, WEB) == {frontend(VIP)}
    assert members(store, WEB) == {uid("a")}
    assert store.claimants == {}
    put(store, service(WEB, VIP))
    assert members(store, WEB) == {uid("a")}


def test_the_same_again_makes_nothing_dirty() -> None:
    store = Store()
    mesh = (service(WEB, VIP), workload("a", "10.1.0.1", of=WEB))
    put(store, *mesh)
    assert put(store, *mesh) == set()


def test_a_vip_that_moves_makes_both_places_dirty() -> None:
    store = Store()
    put(store, service(WEB, VIP))
    assert put(store, service(WEB, SECOND)) == {frontend(VIP), frontend(SECOND)}
    assert set(store.claimants) == {frontend(SECOND)}


def test_services_that_share_a_vip_are_all_known_in_one_order() -> None:
    for arrival in ((WEB, OTHER), (OTHER, WEB)):
        store = Store()
        for key in arrival:
            put(store, service(key, VIP))
        assert store.claimants[frontend(VIP)] == (WEB, OTHER)
    assert drop(store, WEB) == {frontend(VIP)}
    assert store.claimants[frontend(VIP)] == (OTHER,)


def test_vips_of_other_networks_are_not_ours() -> None:
    store = Store("mine")
    both = service(WEB)._replace(vips=(vip(VIP, "mine"), vip(SECOND, "other")))
    assert put(store, both) == {frontend(VIP)}


def test_a_vip_named_twice_leaves_without_a_trace() -> None:
    store = Store()
    put(store, service(WEB, VIP, VIP))
    assert store.claimants == {frontend(VIP): (WEB,)}
    assert drop(store, WEB) == {frontend(VIP)}
    assert store.claimants == {}


def test_a_member_that_changes_service_makes_both_dirty() -> None:
    store = Store()
    put(store, service(WEB, VIP), service(DB, SECOND), workload("a", "10.1.0.1", of=WEB))
    dirty = put(store, workload("a", "10.1.0.1", of=DB))
    assert dirty == {frontend(VIP), frontend(SECOND)}
    assert (members(store, WEB), members(store, DB)) == (set(), {uid("a")})


def test_a_member_that_leaves_is_forgotten_everywhere() -> None:
    store = Store()
    put(store, service(WEB, VIP), workload("a", "10.1.0.1", of=(WEB, DB)))
    assert drop(store, uid("a")) == {frontend(VIP)}
    assert store.members == {}
    assert store.workloads == {}
    assert store.claims.owner("", addr.parse("10.1.0.1")) is None
    assert drop(store, uid("a"), "default/never") == set(), "absent is fine"


def test_a_name_both_changed_and_removed_in_one_batch_ends_up_removed() -> None:
    store = Store()
    store.apply([(WEB, service(WEB, VIP)), (WEB, None)])
    assert store.services == {}


def test_an_address_that_is_used_again_concerns_the_old_pod_s_services() -> None:
    store = Store()
    old, new = workload("old", "10.1.0.1", of=WEB), workload("new", "10.1.0.1", of=DB)
    put(store, service(WEB, VIP), service(DB, SECOND), old)
    assert put(store, new) == {frontend(VIP), frontend(SECOND)}
    ip = addr.parse("10.1.0.1")
    assert (store.usable_address(old, ip), store.usable_address(new, ip)) == (False, True)
    assert drop(store, new.uid) == {frontend(VIP), frontend(SECOND)}
    assert store.usable_address(old, ip)


def test_a_pod_that_takes_an_address_concerns_everything_that_shared_it() -> None:
    store = Store()
    entries = [
        workload(name, "10.1.0.1", of=key, traits=Trait(0))._replace(uid=f"c/ServiceEntry/{name}")
        for name, key in (("a", WEB), ("b", DB))
    ]
    put(store, service(WEB, VIP), service(DB, SECOND), *entries)
    ip = addr.parse("10.1.0.1")
    assert [store.usable_address(entry, ip) for entry in entries] == [True, True]
    assert put(store, workload("pod", "10.1.0.1")) == {frontend(VIP), frontend(SECOND)}
    assert [store.usable_address(entry, ip) for entry in entries] == [False, False]
    assert drop(store, uid("pod")) == {frontend(VIP), frontend(SECOND)}
    assert [store.usable_address(entry, ip) for entry in entries] == [True, True]


# Where this node is


def test_the_workloads_of_the_node_tell_its_locality() -> None:
    store = Store(HOME.network, HOME.cluster, HOME.node)
    assert (store.home.region, store.home.zone) == ("", "")
    put(store, workload("far", "10.1.0.9", profile=FAR))
    assert store.home.region == ""
    put(store, workload("a", "10.1.0.1"))
    assert store.home == HOME
    drop(store, uid("a"))
    assert store.home == HOME, "an empty node does not move"


def test_most_of_the_node_s_workloads_decide() -> None:
    store = Store(HOME.network, HOME.cluster, HOME.node)
    moved = HOME._replace(region="r2")
    put(store, workload("a", profile=moved), workload("b"), workload("c"))
    assert store.home == HOME
    put(store, workload("d", profile=moved), workload("b", profile=moved))
    assert store.home == moved


def test_a_node_of_the_same_name_in_another_cluster_is_another_node() -> None:
    store = Store(HOME.network, HOME.cluster, HOME.node)
    put(store, workload("a", profile=HOME._replace(cluster="west", region="r2")))
    assert store.home.region == ""


def test_an_agent_without_a_node_name_has_no_locality() -> None:
    store = Store(HOME.network, HOME.cluster, "")
    put(store, workload("a", profile=HOME._replace(node="")))
    assert store.home.region == ""


def test_when_the_node_s_locality_changes_ranked_services_are_dirty() -> None:
    store = Store(HOME.network, HOME.cluster, HOME.node)
    ranked, plain = service(WEB, VIP, **RANKED), service(DB, SECOND)  # type: ignore[arg-type]
    put(store, ranked, plain)
    assert put(store, workload("a", "10.1.0.1")) == {frontend(VIP)}
    assert put(store, workload("b", "10.1.0.2")) == set()


# Who may get another answer


def test_sensitive_addresses() -> None:
    store = Store(HOME.network, HOME.cluster, HOME.node)
    put(
        store,
        workload("a", "10.1.0.1"),
        service("a/plain", "10.9.0.1"),
        service("a/ranked", "10.9.0.2", **RANKED),  # type: ignore[arg-type]
        service("a/private", "10.9.0.3", visibility=Visibility.NAMESPACE),
        service("a/one", "10.9.0.4"),
        service("b/two", "10.9.0.4"),
        service("a/empty", "10.9.0.5", mode=Mode.STRICT),
    )

    def sensitive(last: int, profile: object = HOME) -> bool:
        return store.sensitive(frontend(f"10.9.0.{last}"), profile)  # type: ignore[arg-type]

    assert [sensitive(last) for last in range(1, 6)] == [False, False, True, True, False]
    assert [sensitive(last, NEAR) for last in range(1, 6)] == [False, True, True, True, False]
    assert not sensitive(99)


histories = st.lists(meshes.changes, max_size=25)


def test_of_many_services_that_changed_some_are_left_for_the_next_call() -> None:
    store = Store()
    keys = [f"default/s{index}" for index in range(5)]
    put(store, *(service(key, f"10.9.0.{index}") for index, key in enumerate(keys)))
    store.roster.put(workload("a", of=tuple(keys)))
    found = [set(store.apply((), 2))]
    while store.unfinished:
        found.append(set(store.apply((), 2)))
    assert [len(each) for each in found] == [2, 2, 1]
    assert set.union(*found) == store.claimants.keys()
    assert not store.apply(())


@settings(max_examples=200)
@given(histories, st.integers(0, 2**32))
def test_the_indexes_are_those_of_the_resources_alone(
    history: list[tuple[str, Workload | Service | None]], seed: int
) -> None:
    """However they came: in batches, again, in and out."""
    store, dice = Store("", HOME.cluster, HOME.node), random.Random(seed)
    at = 0
    while at < len(history):
        step = dice.randint(1, 5)
        store.apply(history[at : at + step])
        at += step
    wanted: dict[str, Workload | Service] = {}
    for name, value in history:
        wanted.pop(name, None)
        if value is not None:
            wanted[name] = value
    workloads = {n: w for n, w in wanted.items() if isinstance(w, Workload)}
    services = {n: s for n, s in wanted.items() if isinstance(s, Service)}
    assert (store.workloads, store.services) == (workloads, services)
    memberships = {
        key: {w.uid: w for w in workloads.values() if key in {m.service for m in w.memberships}}
        for key in meshes.KEYS
    }
    assert store.members == {key: found for key, found in memberships.items() if found}
    claimed = {
        (v.addr, v.plen): tuple(sorted(s.key for s in services.values() if v in s.vips))
        for one in services.values()
        for v in one.vips
    }
    assert store.claimants == claimed
