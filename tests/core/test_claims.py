"""Who owns an address that several workloads claim."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.core import addr
from kmesh.core.claims import Claims, score
from kmesh.core.model import Trait, Workload
from tests.core.meshes import workload

IP = "10.1.0.1"
KINDS = (
    Trait.POD | Trait.HBONE,
    Trait.POD,
    Trait.HBONE,
    Trait(0),
)


class Model:
    """The rule in one line: highest score, then the one that came last."""

    def __init__(self) -> None:
        self.arrived: dict[str, Workload] = {}

    def put(self, one: Workload) -> None:
        self.arrived.pop(one.uid, None)
        self.arrived[one.uid] = one

    def owner(self, network: str, ip: bytes) -> str | None:
        claimants = [
            (score(w), place, w.uid)
            for place, w in enumerate(self.arrived.values())
            if ip in w.addresses
            and w.profile.network == network
            and not w.traits & Trait.HOST_NETWORK
        ]
        return max(claimants)[2] if claimants else None


def put(claims: Claims, known: dict[str, Workload], one: Workload) -> set[str]:
    """As the store does: an old version leaves first."""
    changed = set[str]()
    if one.uid in known:
        changed |= claims.drop(known[one.uid])
    known[one.uid] = one
    return changed | claims.put(one, known)


@pytest.mark.parametrize(("kind", "points"), list(zip(KINDS, (3, 2, 1, 0), strict=True)))
def test_scores(kind: Trait, points: int) -> None:
    assert score(workload("a", IP, traits=kind)) == points


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_the_higher_score_is_kept_and_among_equals_the_later(first: Trait, second: Trait) -> None:
    claims, known = Claims(), dict[str, Workload]()
    a, b = workload("a", IP, traits=first), workload("b", IP, traits=second)
    put(claims, known, a)
    changed = put(claims, known, b)
    winner = a if score(a) > score(b) else b
    assert claims.owner("", addr.parse(IP)) == winner.uid
    assert changed == ({a.uid, b.uid} if winner is b else set())
    assert claims.contested("", addr.parse(IP))
    assert claims.conflicts == 1


def test_when_the_owner_goes_the_best_of_the_rest_follows() -> None:
    claims, known = Claims(), dict[str, Workload]()
    low = workload("low", IP, traits=Trait(0))
    middle = workload("middle", IP, traits=Trait.HBONE)
    high = workload("high", IP)
    for one in (middle, low, high):
        put(claims, known, one)
    assert claims.drop(high) >= {middle.uid}
    assert claims.owner("", addr.parse(IP)) == middle.uid
    claims.drop(middle)
    assert claims.owner("", addr.parse(IP)) == low.uid
    assert claims.conflicts == 0
    claims.drop(low)
    assert claims.owner("", addr.parse(IP)) is None


def test_a_new_owner_concerns_every_claimant() -> None:
    """Two endpoints that are no pods may share an address until a pod takes it from both."""
    claims, known = Claims(), dict[str, Workload]()
    entries = [workload(name, IP, traits=Trait(0)) for name in "ab"]
    for entry in entries:
        put(claims, known, entry)
    pod = workload("pod", IP)
    assert put(claims, known, pod) == {pod.uid, *(e.uid for e in entries)}
    assert claims.drop(pod) == {e.uid for e in entries}


def test_networks_are_apart() -> None:
    claims, known = Claims(), dict[str, Workload]()
    here = workload("here", IP)
    there = workload("there", IP, profile=here.profile._replace(network="other"))
    put(claims, known, here)
    put(claims, known, there)
    assert claims.conflicts == 0
    assert claims.owner("", addr.parse(IP)) == here.uid
    assert claims.owner("other", addr.parse(IP)) == there.uid


def test_host_network_workloads_own_no_address() -> None:
    claims, known = Claims(), dict[str, Workload]()
    host = workload("host", IP, traits=Trait.POD | Trait.HOST_NETWORK)
    assert put(claims, known, host) == set()
    assert claims.owner("", addr.parse(IP)) is None
    pod = workload("pod", IP)
    put(claims, known, pod)
    assert not claims.contested("", addr.parse(IP))
    assert claims.drop(host) == set()
    assert claims.owner("", addr.parse(IP)) == pod.uid


def test_an_address_named_twice_is_one_claim() -> None:
    claims, known = Claims(), dict[str, Workload]()
    a, b = workload("a", IP, IP), workload("b", IP, IP)
    put(claims, known, a)
    put(claims, known, b)
    claims.drop(b)
    assert claims.owner("", addr.parse(IP)) == a.uid
    claims.drop(a)
    assert claims.owner("", addr.parse(IP)) is None
    assert claims.conflicts == 0


ADDRESSES = ("10.1.0.1", "10.1.0.2", "fd01::1")
candidates = st.builds(
    lambda name, ips, kind, network: workload(name, *ips, traits=kind)._replace(
        profile=workload(name).profile._replace(network=network)
    ),
    st.sampled_from("abcd"),
    st.lists(st.sampled_from(ADDRESSES), max_size=3),
    st.sampled_from((*KINDS, Trait.POD | Trait.HOST_NETWORK)),
    st.sampled_from(("", "", "other")),
)
steps = st.lists(st.one_of(candidates, st.sampled_from("abcd")), max_size=20)


@settings(max_examples=300)
@given(steps)
def test_the_owner_is_always_that_of_a_naive_model(script: list[Workload | str]) -> None:
    claims, model, known = Claims(), Model(), dict[str, Workload]()
    keys = [(network, addr.parse(ip)) for network in ("", "other") for ip in ADDRESSES]
    for step in script:
        before = {key: claims.owner(*key) for key in keys}
        if isinstance(step, Workload):
            acting, changed = step.uid, put(claims, known, step)
            model.put(step)
        else:
            acting, changed = workload(step).uid, set()
            if acting in known:
                changed = claims.drop(known.pop(acting))
                del model.arrived[acting]
        after = {key: claims.owner(*key) for key in keys}
        assert after == {key: model.owner(*key) for key in keys}
        for key in keys:
            if before[key] != after[key]:
                told = {uid for uid in (before[key], after[key]) if uid} - {acting}
                assert told <= changed, (key, before[key], after[key])
        rivalries = sum(
            sum(
                key[1] in w.addresses
                and w.profile.network == key[0]
                and not w.traits & Trait.HOST_NETWORK
                for w in known.values()
            )
            > 1
            for key in keys
        )
        assert claims.conflicts == rivalries
