"""The workloads in C answer as the plain roster does, whatever came and went before."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.abi.layout import SLOT_SIZE
from kmesh.core import addr
from kmesh.core.ids import Ids
from kmesh.core.model import Families, Rejected, Trait, Workload
from kmesh.core.render import Render, View
from kmesh.core.roster import Asked
from kmesh.wire.discovery import Decoder, ResponseReader
from kmesh.wire.mesh import Mesh
from kmesh.wire.mesh_ids import MeshIds
from kmesh.wire.parts import Parts
from tests.core import meshes
from tests.core.meshes import FAR, HOME, WEB, service, uid, workload
from tests.wire.messages import entry, response
from tests.wire.twins import Change, Twins, encoded, scanned

if TYPE_CHECKING:
    from kmesh.core.store import Store

NETWORKS = ("", "other")
traits = st.sampled_from((0, 0, 0, Trait.HBONE, Trait.HOST_NETWORK))
varied = st.builds(
    lambda row, more, network: row._replace(
        traits=row.traits | int(more), profile=row.profile._replace(network=network)
    ),
    meshes.workloads,
    traits,
    st.sampled_from(("", "", "", "other")),
)


def in_order(change: Change) -> Change:
    """A workload as it comes off the wire: a map has no order, rows have."""
    name, value = change
    if isinstance(value, Workload):
        value = value._replace(memberships=tuple(sorted(value.memberships)))
    return name, value


changes = st.one_of(varied.map(lambda w: (w.uid, w)), meshes.changes).map(in_order)


def known(store: Store) -> list[object]:
    """Everything that a roster can be asked."""
    roster, keys = store.roster, [*product(NETWORKS, map(addr.parse, meshes.IPS))]
    return [
        dict(store.workloads),
        len(store.workloads),
        {key: dict(store.members[key]) for key in store.members},
        {key: len(store.members.get(key, ())) for key in meshes.KEYS},
        [store.claims.owner(*key) for key in keys],
        [store.claims.contested(*key) for key in keys],
        [store.claims.count(network) for network in NETWORKS],
        store.claims.conflicts,
        [
            store.usable_address(one, raw)
            for _, one in sorted(store.workloads.items())
            for raw in one.addresses
        ],
        roster.identities(),
        Counter(roster.addresses()),
        store.home,
        store.services,
        store.claimants,
    ]


def rows(store: Store, quick: bool) -> dict[bytes, object]:
    """What is wanted of the kernel, ids by name; the order of equal addresses is anybody's."""
    ids = store.roster.ids
    select = store.roster.select if quick else None
    views = {1: View("other", HOME), 2: View("default", FAR)}
    render = Render(store, lambda key: meshes.KEYS.index(key) + 1, ids.get, False, select)
    found: dict[bytes, object] = {}
    for frontend in store.claimants:
        for key, target in render.rows(frontend, views).items():
            slots = [
                target.slots[at : at + SLOT_SIZE] for at in range(0, len(target.slots), SLOT_SIZE)
            ]
            named = [
                (slot[:16], ids.name(int.from_bytes(slot[16:20], "little")), slot[20:])
                for slot in slots
            ]
            assert slots == sorted(slots)
            found[key] = target._replace(slots=b""), sorted(named)
    return found


@settings(max_examples=50)
@given(st.lists(st.lists(changes, min_size=1, max_size=4), max_size=8))
def test_both_rosters_answer_alike(history: list[list[Change]]) -> None:
    twins = Twins()
    twins.mesh.watch()
    twins.plain.roster.watch()
    for store in (twins.compact, twins.plain):
        store.roster.keep_left()
    for batch in history:
        stamps = {name: twins.mesh.stamp(uid(name)) for name in meshes.NAMES}
        before = {name: twins.plain.roster.stamp(uid(name)) for name in meshes.NAMES}
        compact, plain = twins.apply(batch)
        assert set(compact) == set(plain)
        assert known(twins.compact) == known(twins.plain)
        assert Counter(twins.mesh.left()) == Counter(twins.plain.roster.left())
        assert set(twins.mesh.moved()) == set(twins.plain.roster.moved())
        assert rows(twins.compact, quick=True) == rows(twins.plain, quick=False)
        for name in meshes.NAMES:
            if twins.plain.roster.stamp(uid(name)) != before[name]:
                assert twins.mesh.stamp(uid(name)) != stamps[name]


def test_endpoints_are_found_at_once_when_nothing_tells_them_apart() -> None:
    twins = Twins()
    pods = [workload(f"p{i}", f"10.1.0.{i}", of=WEB, ports=((80, 8080),)) for i in range(1, 40)]
    twins.apply([(WEB, service(WEB, "10.9.0.1")), *((pod.uid, pod) for pod in pods)])
    chosen = twins.mesh.select(
        Asked(WEB, "", addr.parse("10.9.0.1"), True, False, Families.AUTOMATIC)
    )
    assert chosen is not None
    assert len(chosen.slots) == SLOT_SIZE * len(pods)
    assert chosen.kinds == ((pods[0].memberships[0].ports, 1),)
    assert rows(twins.compact, quick=True) == rows(twins.plain, quick=False)


def test_the_last_of_two_entries_for_one_service_counts() -> None:
    """A map on the wire may name a key twice; messages in pieces are one."""
    mesh = Mesh(Parts())
    first = workload("a", "10.1.0.1", of=WEB, ports=((80, 1), (81, 2)))
    last = workload("a", "10.1.0.1", of=("default/db", WEB), ports=((80, 8080),))
    scanned(mesh, [entry(encoded(first) + encoded(last), first.uid)])
    asked = Asked(WEB, "", addr.parse("10.9.0.1"), True, False, Families.AUTOMATIC)
    chosen = mesh.select(asked)
    assert chosen is not None
    assert chosen.kinds == ((last.memberships[1].ports, 1),)
    assert mesh.workloads[first.uid].memberships == last.memberships
    assert len(mesh.members[WEB]) == 1


def test_a_row_is_made_again_only_when_the_workload_changed() -> None:
    mesh = Mesh(Parts())
    row = workload("a", "10.1.0.1", of=WEB)
    scanned(mesh, [entry(encoded(row), row.uid, "v1")])
    first = mesh.resource(row.uid)
    assert first is not None
    assert first.value == row
    assert mesh.resource(row.uid) is first
    stamp = mesh.stamp(row.uid)
    scanned(mesh, [entry(encoded(row, name="other"), row.uid, "v2")])
    second = mesh.resource(row.uid)
    assert second is not None
    assert (second.version, second.raw) == ("v2", encoded(row, name="other"))
    assert mesh.stamp(row.uid) == stamp, "what the planner sees is the same"
    assert list(mesh.touched()) == [WEB]
    assert list(mesh.touched()) == []


def test_only_workloads_that_name_themselves_rightly_are_taken() -> None:
    mesh = Mesh(Parts())
    row = workload("a", "10.1.0.1")
    bad = row._replace(addresses=(bytes(5),))
    left = scanned(
        mesh,
        [
            entry(encoded(row), "another name"),
            entry(encoded(bad), row.uid),
            entry(encoded(row), row.uid),
        ],
    )
    assert [one.name for one in left] == ["another name", row.uid]
    assert left[0].value == row
    assert isinstance(left[1].value, Rejected)
    assert dict(mesh.workloads) == {row.uid: row}


@given(st.lists(st.integers(0, 2000), max_size=6))
def test_a_response_in_pieces_is_taken_once(cuts: list[int]) -> None:
    mesh = Mesh(Parts())
    pods = [workload(f"p{i}", f"10.1.0.{i}", of=WEB) for i in range(5)]
    data = response([entry(encoded(pod), pod.uid) for pod in pods])
    at = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    reader = ResponseReader(Decoder(mesh))
    for start, end in pairwise(at):
        assert reader.feed(data[start:end]) == []
    reader.finish()
    assert (mesh.taken, dict(mesh.workloads)) == (5, {pod.uid: pod for pod in pods})


def test_many_names_and_one_that_is_very_long() -> None:
    mesh = Mesh(Parts())
    names = [f"c//Pod/n/pod-{i:04d}" for i in range(2000)] + ["c//Pod/n/" + 100_000 * "x"]
    names += [f"c//Pod/n/more-{i:04d}" for i in range(2000)]
    pods = [Workload(name, workload("a").identity, HOME, (), ()) for name in names]
    scanned(mesh, [entry(encoded(pod), pod.uid) for pod in pods])
    assert sorted(mesh.workloads) == sorted(names)
    for number, name in enumerate(names, 1):
        mesh.ids.bind(name, number)
        mesh.ids.get(name)
    assert sorted(name for name, _ in mesh.ids.pairs()) == sorted(names)


def test_what_is_no_text_is_nobodys_name() -> None:
    mesh = Mesh(Parts())
    assert mesh.workloads.get("\udcff") is None
    assert "\udcff" not in mesh.workloads
    with pytest.raises(KeyError):
        mesh.workloads["\udcff"]


def test_rows_without_bytes_are_refused() -> None:
    with pytest.raises(TypeError, match="scanner"):
        Mesh(Parts()).put(workload("a"))


NAMES = ("a", "b", "c//Pod/x")
steps = st.one_of(
    st.tuples(st.just("get"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("bind"), st.sampled_from(NAMES), st.integers(0, 6)),
    st.tuples(st.just("drop"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("come"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("go"), st.sampled_from(NAMES), st.just(0)),
)


@given(st.integers(0, 5), st.lists(steps, max_size=20))
def test_ids_outlive_the_workloads_that_have_them(
    reserved: int, script: list[tuple[str, str, int]]
) -> None:
    mesh, plain = Mesh(Parts()), Ids()
    compact = Ids(MeshIds(mesh))
    compact.reserve(reserved)
    plain.reserve(reserved)
    for what, name, id_ in script:
        if what == "get":
            assert compact.get(name) == plain.get(name)
        elif what == "bind":
            assert compact.bind(name, id_) == plain.bind(name, id_)
        elif what == "drop":
            compact.drop(name)
            plain.drop(name)
        elif what == "come":
            row = workload("x")._replace(uid=name, traits=int(Trait.HEALTHY))
            scanned(mesh, [entry(encoded(row), name)])
        else:
            mesh.remove(name)
        assert len(compact) == len(plain)
        assert sorted(compact.pairs()) == sorted(plain.pairs())
        for number in range(1, 8):
            assert compact.name(number) == plain.name(number)
