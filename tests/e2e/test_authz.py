"""Policies from the control plane to the door of a pod: nothing wrong ever comes in."""

from __future__ import annotations

import errno
import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.cli.main import main
from kmesh.core.events import AUTHORIZATION
from tests.e2e.agent import until
from tests.e2e.peers import pod as workload
from tests.e2e.peers import policy
from tests.kernel.net import TIMEOUT

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
SERVER, FRIEND, STRANGER = "10.1.0.1", "10.1.0.2", "10.1.0.3"
PODS = (workload("client", SERVER), workload("friend", FRIEND))
ONLY_FRIEND = {"sourceIps": [f"{FRIEND}/32"]}


@pytest.fixture
def door(agent: Agent, plane: Plane, pod: Namespace, servers: Servers) -> Namespace:
    """The enrolled pod, serving at SERVER:8080, guarded by nothing yet."""
    plane.apply(*PODS)
    agent.start_synced()
    agent.enrol(pod)
    agent.until(lambda state: len(guards(state)) == 1)
    return pod


def guards(state: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = state["authorization"]["pods"]
    return found


def reach(pod: Namespace, client: str) -> bool:
    with pod.socket() as dialler:
        dialler.bind((client, 0))
        found = dialler.connect_ex((SERVER, 8080))
        assert found in (0, errno.ECONNREFUSED)
        return found == 0


def apply(plane: Plane, *objects: dict[str, Any]) -> None:
    """The mesh with these policies; returns when the agent says that they are in force."""
    plane.apply(*PODS, *objects)
    plane.until_answered()


def test_policies_are_in_force_when_they_are_acknowledged(plane: Plane, door: Namespace) -> None:
    assert reach(door, STRANGER)
    apply(plane, policy("a", ONLY_FRIEND))
    assert reach(door, FRIEND)
    assert not reach(door, STRANGER)
    apply(plane, policy("a", ONLY_FRIEND), policy("d", ONLY_FRIEND, action="Deny"))
    assert not reach(door, FRIEND)
    apply(plane, policy("g", {"principals": [{"presence": None}]}, scope="Global"))
    assert reach(door, FRIEND)
    assert not reach(door, STRANGER)
    apply(plane)
    assert reach(door, STRANGER)


def test_clients_can_be_refused_at_connect(agent: Agent, plane: Plane, door: Namespace) -> None:
    apply(plane, policy("a", ONLY_FRIEND))
    agent.stop()
    agent.start_synced("--early-refusal")
    agent.until(lambda state: state["observability"]["switches"]["early_refusal"])
    assert reach(door, FRIEND)
    assert not reach(door, STRANGER)
    assert agent.state()["kernel"]["reasons"].get("early not_allowed") == 1


def test_the_agent_s_end_leaves_the_door_as_it_was(
    agent: Agent, plane: Plane, door: Namespace
) -> None:
    apply(plane, policy("a", ONLY_FRIEND))
    agent.kill()
    assert reach(door, FRIEND)
    assert not reach(door, STRANGER)
    plane.apply(*PODS, policy("a", {"sourceIps": [f"{STRANGER}/32"]}))
    agent.start_synced()
    until(lambda: reach(door, STRANGER), agent.tail)
    assert not reach(door, FRIEND)


def test_a_policy_that_cannot_be_understood_is_named_and_the_last_good_one_stays(
    plane: Plane, door: Namespace
) -> None:
    apply(plane, policy("a", ONLY_FRIEND))
    bad = b"\x0a\x01a\x12\x07default\x18\x01\x20\x07"  # action 7
    plane.put("default/a", bad, AUTHORIZATION)
    nack = plane.nack()
    assert "default/a" in nack.message
    assert "action 7" in nack.message
    assert reach(door, FRIEND)
    assert not reach(door, STRANGER)


def test_a_pod_waits_behind_a_closed_door_for_a_policy_it_names(
    agent: Agent, plane: Plane, door: Namespace
) -> None:
    named = [workload("client", SERVER, authorizationPolicies=["default/late"]), PODS[1]]
    plane.apply(*named)
    plane.until_answered()
    assert not reach(door, FRIEND)
    (row,) = guards(agent.state())
    assert (row["mode"], row["why"]) == ("refuse", "waiting for default/late")
    plane.apply(*named, policy("late", ONLY_FRIEND, scope="WorkloadSelector"))
    plane.until_answered()
    assert reach(door, FRIEND)
    assert not reach(door, STRANGER)


def test_an_open_connection_ends_when_its_policy_does(
    agent: Agent, plane: Plane, door: Namespace
) -> None:
    with door.socket() as listener, door.socket() as friend, door.socket() as stranger:
        listener.bind((SERVER, 7777))
        listener.listen()
        pairs = []
        for client, address in ((friend, FRIEND), (stranger, STRANGER)):
            client.bind((address, 0))
            client.connect((SERVER, 7777))
            pairs.append(listener.accept()[0])
            pairs[-1].settimeout(TIMEOUT)
        apply(plane, policy("a", ONLY_FRIEND))
        with pairs[0], pairs[1]:
            with pytest.raises(ConnectionResetError):
                stranger.recv(1)
            friend.sendall(b"?")
            assert pairs[0].recv(1) == b"?"
    assert agent.state()["authorization"]["evictor"]["looks"] >= 1


def test_a_denial_is_recorded_once_a_second_for_a_pair(
    agent: Agent, plane: Plane, door: Namespace
) -> None:
    apply(plane, policy("d", {"sourceIps": [f"{FRIEND}/32"]}, action="Deny"))
    for _ in range(20):
        assert not reach(door, FRIEND)
    state = agent.until(lambda found: found["authorization"]["denials"])
    first = state["authorization"]["denials"][0]
    assert first["source"].startswith(f"{FRIEND}:")
    assert first["source_workload"].endswith("friend")
    assert first["destination"] == f"{SERVER}:8080"
    assert first["destination_workload"].endswith("client")
    assert (first["policy"], first["reason"]) == ("default/d", "denied")
    assert state["authorization"]["verdicts"]["default/d"] == {"denied": 20}
    assert len(state["authorization"]["denials"]) < 20
    assert "by default/d" in agent.tail()


def test_why_names_the_rule(
    agent: Agent, plane: Plane, door: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(plane, policy("a", {"destinationPorts": [1]}, ONLY_FRIEND))
    found = agent.api.why(FRIEND, SERVER, 8080)
    assert (found["allowed"], found["policy"], found["rule"]) == (True, "default/a", 1)
    assert found["source_identity"] == "cluster.local/ns/default/sa/default"
    found = agent.api.why(STRANGER, SERVER, 8080)
    assert (found["allowed"], found["reason"], found["source_workload"]) == (
        False, "not_allowed", None,
    )  # fmt: skip
    found = agent.api.why(STRANGER, "10.1.0.77", 8080)
    assert (found["allowed"], found["reason"], found["frontend"]) == (True, "not_mesh", None)
    where = ["--run-dir", str(agent.api.socket.parent)]
    assert main(["why", FRIEND, f"{SERVER}:8080", *where]) == 0
    assert "allowed: allowed by default/a, rule 2" in capsys.readouterr().out
    assert main(["why", STRANGER, f"{SERVER}:8080", *where]) == 1
    assert "denied: not allowed" in capsys.readouterr().out
    assert main(["why", STRANGER, SERVER, *where]) == 1


class Hammer:
    """Two clients that try without a pause: one that may always come in, one that never may."""

    def __init__(self, pod: Namespace) -> None:
        self.met = {FRIEND: Counter[int](), STRANGER: Counter[int]()}
        self._pod, self._stop = pod, threading.Event()
        self._threads = [threading.Thread(target=self._try, args=(one,)) for one in self.met]

    def __enter__(self) -> Hammer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _try(self, client: str) -> None:
        def inside() -> None:
            while not self._stop.is_set():
                with socket.socket() as dialler:
                    dialler.bind((client, 0))
                    self.met[client][dialler.connect_ex((SERVER, 8080))] += 1

        self._pod.run(inside)

    def right(self) -> None:
        """Every try had the one right answer."""
        assert set(self.met[FRIEND]) == {0}
        assert set(self.met[STRANGER]) == {errno.ECONNREFUSED}
        assert min(sum(each.values()) for each in self.met.values()) > 100


FLIPS = (
    [policy("a", ONLY_FRIEND)],
    [policy("a", {"principals": [{"suffix": "sa/default"}], "namespaces": [{"exact": "default"}]})],
    [policy("a", {"notSourceIps": [f"{STRANGER}/32"]}), policy("b", ONLY_FRIEND)],
    [policy("d", {"notPrincipals": [{"presence": None}]}, action="Deny")],
    [policy("a", {}), policy("g", ONLY_FRIEND, scope="Global")],
)  # fmt: skip


def test_no_wrong_verdict_while_policies_flip(plane: Plane, door: Namespace) -> None:
    apply(plane, *FLIPS[0])
    with Hammer(door) as hammer:
        for flip in range(100):
            apply(plane, *FLIPS[flip % len(FLIPS)])
    hammer.right()


def test_no_wrong_verdict_while_agents_are_killed(
    agent: Agent, plane: Plane, door: Namespace
) -> None:
    apply(plane, *FLIPS[0])
    with Hammer(door) as hammer:
        for flip in range(4):
            plane.apply(*PODS, *FLIPS[flip % len(FLIPS)])  # killed somewhere on the way
            agent.kill()
            agent.start_synced()
    hammer.right()


def test_sources_that_are_exempt_come_in_under_every_policy(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(*PODS, policy("nobody"))
    agent.start_synced("--exempt-cidrs", f"{FRIEND},10.200.0.0/16")
    agent.enrol(pod)
    agent.until(lambda state: len(guards(state)) == 1)
    until(lambda: not reach(pod, STRANGER), agent.tail)
    assert reach(pod, FRIEND)
    assert agent.state()["authorization"]["exempt"] == [FRIEND, "10.200.0.0/16"]
