"""Enrolled pods: rows in a safe order, views shared and retired, adoption."""

from __future__ import annotations

from kmesh.abi import layout
from kmesh.abi.check import seal_last
from kmesh.core.commands import ENROL, POD, Drop, Op, Phase, Put
from kmesh.core.ids import Ids
from kmesh.core.pods import UID_ROOM, Pods, decode_pod
from kmesh.core.render import View
from kmesh.core.store import Store
from tests.core.meshes import FAR, HOME, uid, workload

A, B = uid("a"), uid("b")


def made(*names: str) -> tuple[Pods, Store]:
    store = Store(HOME.network, HOME.cluster, HOME.node)
    store.apply([(uid(name), workload(name)) for name in names])
    ids = Ids()
    return Pods(ids.get), store


def key(cookie: int) -> bytes:
    return cookie.to_bytes(8, "little")


def row(cookie: int, workload_id: int, view: int) -> layout.Enrol:
    value = seal_last(key(cookie), layout.Enrol(workload_id, view, 0, 0).pack())
    return layout.Enrol.unpack(value)


def enrol(cookie: int, workload_id: int, view: int) -> Op:
    value = row(cookie, workload_id, view).pack()
    return Op(Phase.ENROL, Put(ENROL, key(cookie), value), cookie)


def name(cookie: int, text: str) -> Op:
    return Op(Phase.POD, Put(POD, key(cookie), text.encode().ljust(UID_ROOM, b"\0")), cookie)


def apply(pods: Pods, cookie: int, store: Store, started: bool = True) -> list[Op]:
    ops = pods.plan(cookie, store, started)
    for op in ops:
        pods.done(op)
    return ops


def test_a_pod_is_named_before_it_is_enrolled() -> None:
    pods, store = made("a")
    pods.wanted[7] = A
    assert apply(pods, 7, store) == [name(7, A), enrol(7, 1, 1)]
    assert pods.plan(7, store, started=True) == [], "unchanged rows cost nothing"
    assert pods.views == {1: View("default", HOME)}


def test_a_pod_is_withdrawn_before_its_name_goes() -> None:
    pods, store = made("a")
    pods.wanted[7] = A
    apply(pods, 7, store)
    del pods.wanted[7]
    assert apply(pods, 7, store) == [
        Op(Phase.WITHDRAW, Drop(ENROL, key(7)), 7),
        Op(Phase.FORGET_POD, Drop(POD, key(7)), 7),
    ]
    assert pods.plan(7, store, started=True) == []
    assert pods.list() == []


def test_a_namespace_that_was_never_enrolled_is_nothing_to_withdraw() -> None:
    pods, store = made()
    assert pods.plan(7, store, started=True) == []


def test_a_pod_whose_workload_is_not_known_yet_has_everybody_s_view() -> None:
    pods, store = made()
    pods.wanted[7] = A
    assert apply(pods, 7, store) == [name(7, A), enrol(7, 1, 0)]
    assert pods.views == {}
    store.apply([(A, workload("a"))])
    assert apply(pods, 7, store) == [enrol(7, 1, 1)]


def test_before_the_mesh_is_known_nobody_has_a_view() -> None:
    pods, store = made("a")
    pods.wanted[7] = A
    assert apply(pods, 7, store, started=False) == [name(7, A), enrol(7, 1, 0)]
    assert apply(pods, 7, store) == [enrol(7, 1, 1)]


def test_pods_of_one_namespace_and_place_share_a_view() -> None:
    pods, store = made("a", "b")
    store.apply([(uid("c"), workload("c", profile=FAR))])
    store.apply([(uid("d", "other"), workload("d", namespace="other"))])
    for cookie, one in ((1, A), (2, B), (3, uid("c")), (4, uid("d", "other"))):
        pods.wanted[cookie] = one
        apply(pods, cookie, store)
    assert [pods.rows[cookie].view for cookie in (1, 2, 3, 4)] == [1, 1, 2, 3]
    assert pods.views == {1: View("default", HOME), 2: View("default", FAR), 3: View("other", HOME)}


def test_a_namespace_that_becomes_another_workload() -> None:
    pods, store = made("a", "b")
    pods.wanted[7] = A
    apply(pods, 7, store)
    pods.wanted[7] = B
    assert apply(pods, 7, store) == [name(7, B), enrol(7, 2, 1)]


def test_views_retire_with_their_last_pod_and_their_ids_are_not_used_again() -> None:
    pods, store = made("a", "b")
    for cookie, one in ((1, A), (2, B)):
        pods.wanted[cookie] = one
        apply(pods, cookie, store)
    del pods.wanted[1]
    apply(pods, 1, store)
    assert not pods.retire(), "the other pod still has it"
    del pods.wanted[2]
    apply(pods, 2, store)
    assert pods.retire()
    assert pods.views == {}
    pods.wanted[3] = A
    apply(pods, 3, store)
    assert pods.rows[3].view == 2


def test_a_new_daemon_keeps_rows_views_and_names() -> None:
    pods, store = made("a", "b")
    rows = {1: row(1, 1, 5), 2: row(2, 2, 6)}
    pods.adopt({1: A, 2: B}, rows)
    assert pods.plan(1, store, started=False) == [], "the mesh is not known yet"
    # Both are the same view now: the first keeps its number, the second follows.
    assert [pods.view(one, store, rows[cookie].view) for cookie, one in ((1, A), (2, B))] == [5, 5]
    assert apply(pods, 1, store) == []
    assert pods.rows[2].view == 6
    apply(pods, 2, store)
    assert pods.rows[2].view == 5
    store.apply([(uid("c"), workload("c", profile=FAR))])
    pods.wanted[3] = uid("c")
    apply(pods, 3, store)
    assert pods.rows[3].view == 7, "above all that lie in the map"


def test_a_name_without_enrolment_is_not_wanted() -> None:
    pods, _ = made("a")
    pods.adopt({1: A}, {})
    assert pods.wanted == {}


def test_the_list_shows_what_is_wanted_and_what_is() -> None:
    pods, store = made("a")
    pods.wanted[2] = A
    assert [(pod.cookie, pod.uid, pod.enrol) for pod in pods.list()] == [(2, A, None)]
    apply(pods, 2, store)
    del pods.wanted[2]
    (left,) = pods.list()
    assert (left.cookie, left.uid) == (2, "")
    assert left.enrol is not None


def test_a_uid_is_read_back_from_its_row() -> None:
    long = "ü" * ((UID_ROOM - 1) // 2)
    for text in (A, long):
        (op, _) = made_row(text)
        assert isinstance(op.command, Put)
        assert len(op.command.value) == UID_ROOM
        assert decode_pod(op.command.value) == text


def made_row(text: str) -> list[Op]:
    pods, store = made()
    pods.wanted[1] = text
    return pods.plan(1, store, started=True)
