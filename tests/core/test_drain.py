"""When the sockets of a removed workload are to end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmesh.core.drain import Draining
from kmesh.core.model import Trait
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from tests.core.meshes import WEB, service, uid, workload

ADDRESSES = [workload("a", f"10.0.0.{i}").addresses[0] for i in range(4)]


def nobody(_: bytes) -> bool:
    return False


def test_addresses_wait_for_their_time_and_go_once() -> None:
    draining = Draining(10.0, frozenset())
    draining.left(workload("a", "10.0.0.0", "10.0.0.1"), None, 100.0)
    assert draining.next_due() == 110.0
    assert draining.take(109.9, nobody, 9) == []
    assert sorted(draining.take(110.0, nobody, 9)) == ADDRESSES[:2]
    assert (draining.take(200.0, nobody, 9), draining.next_due(), len(draining)) == ([], None, 0)


def test_only_addresses_that_were_lost_wait() -> None:
    draining = Draining(0.0, frozenset())
    draining.left(workload("a", "10.0.0.0", "10.0.0.1"), workload("a", "10.0.0.1"), 0.0)
    assert draining.take(0.0, nobody, 9) == ADDRESSES[:1]


def test_who_does_not_count() -> None:
    draining = Draining(0.0, frozenset({"shop"}))
    draining.left(workload("a", "10.0.0.0"), None, 0.0)
    draining.left(workload("a", "10.0.0.1", namespace="shop"), None, 0.0)
    host = int(Trait.HEALTHY | Trait.HOST_NETWORK)
    draining.left(workload("b", "10.0.0.2", namespace="shop")._replace(traits=host), None, 0.0)
    assert draining.take(0.0, nobody, 9) == ADDRESSES[1:2]
    never = Draining(None, frozenset())
    never.left(workload("a", "10.0.0.0"), None, 0.0)
    assert never.next_due() is None


@given(st.lists(st.integers(0, 3)), st.sets(st.integers(0, 3)), st.integers(1, 4))
def test_addresses_that_are_used_again_are_left_alone(
    gone: list[int], again: set[int], most: int
) -> None:
    draining = Draining(0.0, frozenset())
    for i in gone:
        draining.left(workload("a", f"10.0.0.{i}"), None, 0.0)
    owned = {ADDRESSES[i] for i in again}
    found = [addr for _ in range(4) for addr in draining.take(0.0, owned.__contains__, most)]
    assert len(draining) == 0
    assert sorted(found) == sorted({ADDRESSES[i] for i in gone} - owned)


def test_the_planner_tells_of_workloads_that_go_or_change() -> None:
    steering = Steering(Store("", "Kubernetes", "n1"), Segments(64, 1.0), 64)
    told: list[tuple[str, bool]] = []
    steering.tell_left(lambda old, new: told.append((old.uid, new is None)))
    one = workload("a", "10.0.0.1")
    steering.put([(one.uid, one), (WEB, service(WEB, "10.9.0.1"))])
    steering.put([(one.uid, one), (WEB, None), (uid("other"), None)])
    assert not told
    moved = workload("a", "10.0.0.2")
    steering.put([(one.uid, moved)])
    steering.put([(one.uid, None)])
    assert told == [(one.uid, False), (one.uid, True)]
