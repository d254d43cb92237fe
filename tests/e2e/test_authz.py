"""Policies from the control plane to the door of a pod: nothing wrong ever comes in."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.cli.main import main
from kmesh.core.events import AUTHORIZATION
from tests.e2e.peers import pod as workload
from tests.e2e.peers import policy, service
from tests.kernel.authz import FRIEND, SERVER, STRANGER, reach
from tests.kernel.net import TIMEOUT
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
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


NAMES_LATE = (workload("client", SERVER, authorizationPolicies=["default/late"]), PODS[1])


def test_a_pod_waits_behind_a_closed_door_for_a_policy_it_names(
    agent: Agent, plane: Plane, door: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    check = ["check", "--run-dir", str(agent.api.socket.parent)]
    plane.apply(*NAMES_LATE)
    plane.until_answered()
    assert not reach(door, FRIEND)
    (row,) = guards(agent.state())
    assert (row["mode"], row["why"]) == ("refuse", "waiting for default/late")
    assert main(check) == 1
    assert "client is closed to everybody: waiting for default/late" in capsys.readouterr().out
    plane.apply(*NAMES_LATE, policy("late", ONLY_FRIEND, scope="WorkloadSelector"))
    plane.until_answered()
    assert reach(door, FRIEND)
    assert not reach(door, STRANGER)
    assert main([*check, "--wait", "10"]) == 0


def test_whom_a_missing_policy_keeps_out_is_a_choice(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(*NAMES_LATE, policy("d", {"sourceIps": [f"{STRANGER}/32"]}, action="Deny"))
    agent.start_synced("--fail-open", "waiting")
    agent.enrol(pod)
    agent.until(lambda state: len(guards(state)) == 1)
    until(lambda: not reach(pod, STRANGER), agent.tail)
    assert reach(pod, FRIEND), "the policies that are there decide"
    (row,) = guards(agent.state())
    assert (row["mode"], row["missing"]) == ("evaluate", ["default/late"])


OWN, FOREIGN = {"namespaces": [{"exact": "default"}]}, {"namespaces": [{"exact": "other"}]}
IDENTITY = {"principals": [{"exact": "cluster.local/ns/default/sa/default"}]}
LIST = (
    # a match, and whether it allows: friend at 8080, stranger at 8080, friend at 9090
    (ONLY_FRIEND, (True, False, True)),
    ({"destinationPorts": [8080]}, (True, True, False)),
    ({"destinationPorts": [80]}, (False, False, False)),
    (OWN, (True, False, True)),
    (FOREIGN, (False, False, False)),
    (IDENTITY, (True, False, True)),
    ({"notSourceIps": [f"{FRIEND}/32"]}, (False, True, False)),
    ({"notDestinationPorts": [9090]}, (True, True, False)),
    (OWN | {"destinationPorts": [9090]}, (False, False, True)),
    ({"serviceAccounts": ["default/default"]}, (True, False, True)),
)  # fmt: skip


def test_addresses_ports_namespaces_and_identities_both_ways(
    plane: Plane, door: Namespace, servers: Servers
) -> None:
    """Each match in an ALLOW policy, then in a DENY policy that means the opposite; through a VIP
    as well as direct, where the VIP's port is no port of the pod."""
    servers.tcp(SERVER, 9090)
    web = service("default/web", "10.9.0.1", ports={80: 8080})
    pods = (workload("client", SERVER, of="default/web"), PODS[1])
    for match, allowed in LIST:
        for action, opened in (("Allow", allowed), ("Deny", tuple(not one for one in allowed))):
            plane.apply(*pods, web, policy("a", match, action=action))
            plane.until_answered()
            met = [reach(door, FRIEND), reach(door, STRANGER), reach(door, FRIEND, SERVER, 9090)]
            assert tuple(met) == opened, (action, match)
            assert reach(door, FRIEND, "10.9.0.1", 80) is opened[0], (action, match)


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


def test_open_connections_may_have_a_while_or_stay(
    agent: Agent, plane: Plane, pod: Namespace
) -> None:
    """Never, then in an hour, then at once: an agent that starts looks at what is open, since the
    one before may have ended before it did."""
    plane.apply(*PODS)
    agent.start_synced("--evict", "never")
    agent.enrol(pod)
    agent.until(lambda state: len(guards(state)) == 1)
    with process_in(pod), pod.socket() as listener, pod.socket() as stranger:
        listener.bind((SERVER, 7777))
        listener.listen()
        stranger.bind((STRANGER, 0))
        stranger.connect((SERVER, 7777))
        accepted, _ = listener.accept()
        with accepted:
            apply(plane, policy("a", ONLY_FRIEND))
            for waiting, options in ((0, ()), (1, ("--evict", "3600"))):
                if options:
                    agent.kill()
                    agent.start_synced(*options)
                agent.until(lambda state, n=waiting: evictor(state)["waiting"] == n)  # type: ignore[misc]
                stranger.sendall(b"?")
                assert accepted.recv(1) == b"?"
                assert evictor(agent.state())["looks"] == 0
            agent.kill()
            agent.start_synced()
            with pytest.raises(ConnectionResetError):
                stranger.recv(1)


@contextlib.contextmanager
def process_in(pod: Namespace) -> Iterator[None]:
    """As in every pod: by it an agent that starts finds the namespace."""
    with subprocess.Popen(["ip", "netns", "exec", pod.name, "sleep", "600"]) as process:
        try:
            link, own = f"/proc/{process.pid}/ns/net", os.fstat(pod.fd).st_ino
            until(lambda: os.stat(link).st_ino == own, lambda: link)
            yield
        finally:
            process.kill()


def evictor(state: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = state["authorization"]["evictor"]
    return found


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


def test_what_is_not_recorded_is_counted_for_the_next_record(
    agent: Agent, plane: Plane, door: Namespace
) -> None:
    """Of one pair and policy there is a record a second; what lies between is in the next one."""
    apply(plane, policy("d", {"sourceIps": [f"{FRIEND}/32"]}, action="Deny"))
    tried = 0

    def again() -> bool:
        nonlocal tried
        tried += 1
        assert not reach(door, FRIEND)
        return len(agent.state()["authorization"]["denials"]) > 1

    until(again, agent.tail)
    *_, first, second = sorted(agent.state()["authorization"]["denials"], key=lambda d: d["time"])
    assert first["suppressed"] == 0
    assert 0 < second["suppressed"] <= tried - 2
    assert f", and {second['suppressed']} more" in agent.tail()


def test_dry_run_is_counted_and_logged_and_keeps_nobody_out(
    agent: Agent, plane: Plane, door: Namespace
) -> None:
    apply(plane, policy("d", {"sourceIps": [f"{FRIEND}/32"]}, action="Deny", dryRun=True))
    assert reach(door, FRIEND)
    assert reach(door, STRANGER)
    state = agent.until(lambda found: found["authorization"]["denials"])
    (record,) = state["authorization"]["denials"]
    assert (record["dry_run"], record["policy"]) == (True, "default/d")
    assert record["source_workload"].endswith("friend")
    assert state["authorization"]["verdicts"] == {
        "default/d": {"dry_denied": 1}, "no policy": {"allowed": 2},
    }  # fmt: skip
    until(lambda: "default/d" in agent.tail(), agent.tail)
    assert "would" in agent.tail()


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
    found = agent.state()["authorization"]
    assert found["exempt"] == [FRIEND, "10.200.0.0/16"]
    assert found["exempt_always"][:2] == ["127.0.0.0/8", "::1"]
