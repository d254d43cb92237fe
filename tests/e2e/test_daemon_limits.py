"""Tables that are full: what does not fit is named, everything else goes on, and it heals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.agent import Dialler, uid
from tests.e2e.peers import pod as workload
from tests.e2e.peers import service
from tests.kernel.mesh import dial
from tests.kernel.net import namespace
from tests.waiting import until

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

CLIENT = workload("client", "10.1.0.9")
BIG = service("default/big", "10.9.0.1")
CROWD = [
    workload(f"big-{i}", f"10.2.{i // 200}.{i % 200 + 1}", of="default/big") for i in range(60)
]
WEB = service("default/web", "10.9.0.2")
ENDS = [workload(f"web-{i}", f"10.1.0.{i}", of="default/web") for i in (1, 2, 3)]
ANSWERS = {f"10.1.0.{i}:8080" for i in (1, 2, 3)}


def test_a_service_that_does_not_fit_is_named_and_healed_when_there_is_room(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, BIG, *CROWD)
    agent.start_synced("--max-slots", "64", "--segment-rest", "0")
    agent.enrol(pod)
    assert agent.state()["planner"]["segments"]["used"] == 64
    plane.apply(CLIENT, BIG, *CROWD, WEB, *ENDS)
    until(lambda: plane.statistics().nacks == 1, agent.tail)
    message = plane.nack().message
    assert message.startswith("default/web: ")
    assert "km_slot" in message
    assert "--max-slots is 64" in message
    assert "default/big" not in message
    ((what, why),) = agent.state()["failing"].items()
    assert "10.9.0.2" in what
    assert "--max-slots is 64" in why
    with pytest.raises(OSError, match="unreachable"):
        dial(pod, "10.9.0.2", 80)
    # Everything else works: another service that needs no slots comes and is acknowledged.
    plane.apply(CLIENT, BIG, *CROWD, WEB, *ENDS, service("default/none", "10.9.0.3"))
    until(lambda: plane.statistics().acks >= 3, agent.tail)
    with pytest.raises(ConnectionRefusedError):
        dial(pod, "10.9.0.3", 80)
    # Room: it heals by itself.
    plane.apply(CLIENT, WEB, *ENDS)
    agent.until(lambda state: not state["failing"] and state["synced"])
    assert {dial(pod, "10.9.0.2", 80) for _ in range(60)} == ANSWERS
    assert not any(agent.state()["restarts"].values())


def test_a_service_that_grew_out_of_the_table_keeps_its_old_endpoints(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    two = ENDS[:2]
    plane.apply(CLIENT, WEB, *two)
    agent.start_synced("--max-slots", "4", "--segment-rest", "0")
    agent.enrol(pod)
    # Resources are planned as they come: not even one more may fit beside the old set.
    more = [workload(f"more-{i}", f"10.2.0.{i}", of="default/web") for i in range(1, 71)]
    plane.apply(CLIENT, WEB, *two, *more)
    agent.until(lambda state: bool(state["failing"]))
    assert {dial(pod, "10.9.0.2", 80) for _ in range(60)} == {"10.1.0.1:8080", "10.1.0.2:8080"}
    plane.apply(CLIENT, WEB, *ENDS[:1])
    agent.until(lambda state: not state["failing"] and state["synced"])
    assert {dial(pod, "10.9.0.2", 80) for _ in range(20)} == {"10.1.0.1:8080"}


@pytest.mark.parametrize(
    ("option", "first", "second"),
    [
        # Two addresses with a port and the rest each: four records.
        ("--max-vips", WEB, service("default/two", "10.9.0.4", "10.9.0.5")),
        ("--max-cidrs", service("default/a", cidrVips=["/10.8.0.0/24"]),
         service("default/two", cidrVips=["/10.8.1.0/24"])),
    ],
)  # fmt: skip
def test_other_tables(
    agent: Agent, plane: Plane, option: str, first: dict[str, object], second: dict[str, object]
) -> None:
    limit = {"--max-vips": "4", "--max-cidrs": "1"}[option]
    plane.apply(CLIENT, first, *ENDS)
    agent.start_synced(option, limit)
    before = agent.kernel()
    plane.apply(CLIENT, first, second, *ENDS)
    until(lambda: plane.statistics().nacks == 1, agent.tail)
    assert plane.nack().message.startswith("default/two: ")
    assert set(before["km_vip"]) <= set(agent.kernel()["km_vip"])
    assert agent.state()["failing"]
    plane.apply(CLIENT, second, *ENDS)
    agent.until(lambda state: not state["failing"] and state["synced"])


def test_tables_grow_by_themselves_below_the_limit(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, WEB, *ENDS)
    agent.start_synced()
    agent.enrol(pod)
    capacity = agent.state()["kernel"]["slot_capacity"]
    # Weights 1 to 4095 take 4,096 slots for each service.
    many = [service(f"default/s{i}", f"10.7.0.{i}") for i in range(1, capacity // 4096 + 2)]
    of: dict[str, dict[int, int]] = {f"default/s{i}": {} for i in range(1, len(many) + 1)}
    weighty = [
        workload("light", "10.2.0.1", capacity=1) | {"services": of},
        workload("heavy", "10.2.0.2", capacity=4095) | {"services": of},
    ]
    with Dialler(pod, "10.9.0.2", 80) as dialler:
        plane.apply(CLIENT, WEB, *ENDS, *many, *weighty)
        agent.until(lambda state: state["writer"]["grown"] > 0)
        state = agent.until(lambda state: state["synced"])
        dialler.more(60)
    assert dialler.failures == []
    assert state["kernel"]["slot_capacity"] == 2 * capacity
    assert (state["failing"], plane.until_answered().nacks) == ({}, 0)


def test_a_restart_with_a_higher_limit_makes_room(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    narrow = service("default/narrow", cidrVips=["/10.8.0.0/24"])
    wide = service("default/wide", cidrVips=["/10.7.0.0/16"])
    ends = [
        workload("web-1", "10.1.0.1") | {"services": {"default/narrow": {}, "default/wide": {}}}
    ]
    plane.apply(CLIENT, narrow, wide, *ends)
    agent.start("--max-cidrs", "1", "--max-pods", "1")
    assert list(agent.until(lambda state: bool(state["failing"]))["failing"].values())
    assert "--max-cidrs is 1" in plane.nack().message
    agent.enrol(pod)
    before = agent.kernel()
    agent.stop()
    with Dialler(pod, "10.8.0.9", 80) as dialler:
        agent.start_synced("--max-cidrs", "2", "--max-pods", "2")
        agent.until(lambda state: not state["failing"])
        dialler.more(20)
    assert dialler.failures == []
    assert agent.kernel()["km_enrol"] == before["km_enrol"]
    assert dial(pod, "10.7.3.4", 80) == "10.1.0.1:8080"
    with namespace() as other:
        agent.enrol(other)


def test_a_pod_that_does_not_fit_is_shown_and_enrolled_when_there_is_room(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, workload("late", "10.1.0.8"), WEB, *ENDS)
    agent.start_synced("--max-pods", "2")
    with namespace() as first, namespace() as second:
        agent.enrol(first)
        agent.enrol(second)
        assert agent.api.enrol(Path(pod.path), uid("late")) == pod.cookie
        until(lambda: "why" in agent.row(pod), agent.api.enrolled)
        row = agent.row(pod)
        assert (row["enrolled"], row["workload"]) == (False, uid("late"))
        assert "--max-pods is 2" in row["why"]
        assert agent.state()["failing"] == {f"pod {pod.cookie}": row["why"]}
        with pytest.raises(OSError, match="unreachable"):
            dial(pod, "10.9.0.2", 80)
        assert agent.row(first)["enrolled"]
        assert "why" not in agent.row(first)
        agent.withdraw(first)
        assert agent.until_enrolled(pod)["view"] == agent.row(second)["view"]
        assert dial(pod, "10.9.0.2", 80) in ANSWERS
        assert agent.state()["failing"] == {}
