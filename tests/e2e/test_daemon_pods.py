"""Enrolment over the socket, and what pods of different kinds then see."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.errors import KmeshError
from tests.e2e.agent import uid
from tests.e2e.peers import pod as workload
from tests.e2e.peers import service
from tests.kernel.mesh import dial
from tests.kernel.net import Servers, namespace
from tests.waiting import until

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

CLIENT = workload("client", "10.1.0.9")
WEB = service("default/web", "10.9.0.1", "fd09::1", ports={80: 8080, 53: 8080})
ENDS = [
    workload(f"web-{i}", f"10.1.0.{i}", f"fd01::{i}", of="default/web", ports={80: 8080})
    for i in (1, 2, 3)
]
V4 = {f"10.1.0.{i}:8080" for i in (1, 2, 3)}
V6 = {f"fd01::{i}:8080" for i in (1, 2, 3)}


def udp(pod: Namespace, address: str, port: int, *, connected: bool) -> tuple[str, str]:
    """(who answered, the peer that the application sees) for one datagram."""
    with pod.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
        if connected:
            s.connect((address, port))
            s.send(b"?")
        else:
            s.sendto(b"?", (address, port))
        data, peer = s.recvfrom(100)
        return data.decode(), f"{peer[0]}:{peer[1]}"


def test_enrol_list_and_withdraw(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, WEB, *ENDS)
    agent.start_synced()
    assert agent.api.enrolled() == []
    with pytest.raises(OSError, match="unreachable"):
        dial(pod, "10.9.0.1", 80)
    path = Path(pod.path)
    # Twice is the same as once.
    assert agent.api.enrol(path, uid("client")) == pod.cookie
    assert agent.api.enrol(path, uid("client")) == pod.cookie
    row = agent.until_enrolled(pod)
    assert agent.api.enrolled() == [row]
    assert (row["workload"], row["view"] > 0) == (uid("client"), True)
    assert dial(pod, "10.9.0.1", 80) in V4
    agent.withdraw(pod)
    agent.withdraw(pod)
    assert (agent.kernel()["km_enrol"], agent.kernel()["km_pod"]) == ([], [])
    with pytest.raises(OSError, match="unreachable"):
        dial(pod, "10.9.0.1", 80)
    agent.enrol(pod)
    assert dial(pod, "10.9.0.1", 80) in V4


def test_a_namespace_that_is_gone(agent: Agent, plane: Plane) -> None:
    agent.start_synced()
    with namespace() as first, namespace() as second:
        agent.enrol(first)
        agent.enrol(second)
        gone = Path(first.path)
    with pytest.raises(KmeshError, match=f"{gone}: No such file") as caught:
        agent.api.enrol(gone, uid("client"))
    assert caught.value.code == "KM1301"
    assert {row["cookie"] for row in agent.api.enrolled()} == {first.cookie, second.cookie}
    agent.withdraw(first)
    # The next agent never saw the path: only the cookie leads to what it adopted.
    agent.stop()
    agent.start_synced()
    with pytest.raises(KmeshError, match="No such file"):
        agent.api.withdraw(Path(second.path))
    agent.api._call("DELETE", "/enrol", {"cookie": second.cookie})
    until(lambda: agent.kernel()["km_enrol"] == [], agent.api.enrolled)
    for nonsense in ("1", 0, -1, True, 1.5):
        with pytest.raises(KmeshError, match="cookie"):
            agent.api._call("DELETE", "/enrol", {"cookie": nonsense})


def test_a_client_that_never_ends_its_request_does_not_hold_up_the_end(
    agent: Agent, plane: Plane
) -> None:
    agent.start_synced()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(agent.api.socket))
        client.sendall(b"POST /enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert agent.state()["synced"], "others are answered meanwhile"
        assert agent.stop() == 0


def test_pods_of_two_namespaces_see_what_their_namespace_may(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    theirs: dict[str, Any] = {"visibility": "Namespace"}
    with namespace("10.1.0.1", "10.1.0.2") as other:
        others = Servers(other)
        try:
            others.tcp("10.1.0.1", 8080)
            others.tcp("10.1.0.2", 8080)
            plane.apply(
                CLIENT,
                workload("stranger", "10.1.0.8", namespace="other"),
                service("default/web", "10.9.0.1", **theirs),
                service("other/web", "10.9.0.1", **theirs),
                service("other/secret", "10.9.0.2", **theirs),
                workload("a", "10.1.0.1", of="default/web"),
                workload("b", "10.1.0.2", namespace="other", of="other/web")
                | {"services": {"other/web": {}, "other/secret": {}}},
            )
            agent.start_synced()
            agent.enrol(pod)
            agent.enrol(other, "stranger", "other")
            assert agent.row(pod)["view"] != agent.row(other)["view"]
            assert dial(pod, "10.9.0.1", 80) == "10.1.0.1:8080"
            assert dial(other, "10.9.0.1", 80) == "10.1.0.2:8080"
            assert dial(other, "10.9.0.2", 80) == "10.1.0.2:8080"
            with pytest.raises(OSError, match="unreachable"):
                dial(pod, "10.9.0.2", 80)
            # It becomes a pod of the other namespace: the other view, and nothing else.
            agent.api.enrol(Path(pod.path), uid("stranger", "other"))
            until(lambda: agent.row(pod)["view"] == agent.row(other)["view"], agent.api.enrolled)
            assert dial(pod, "10.9.0.1", 80) == "10.1.0.2:8080"
        finally:
            others.close()


@pytest.mark.parametrize("families", ["dual", "ipv6"])
def test_tcp_and_udp(agent: Agent, plane: Plane, families: str) -> None:
    addresses = [f"fd01::{i}" for i in (1, 2, 3)]
    if families == "dual":
        addresses += [f"10.1.0.{i}" for i in (1, 2, 3)]
    plane.apply(CLIENT, WEB, *ENDS)
    agent.start_synced()
    with namespace(*addresses) as pod:
        if families == "ipv6":
            # Not even a loopback address of the other family.
            command = ["ip", "-n", pod.name, "addr", "del", "127.0.0.1/8", "dev", "lo"]
            subprocess.run(command, check=True)
        servers = Servers(pod)
        try:
            for address in addresses:
                servers.tcp(address, 8080)
                servers.udp(address, 8080)
            agent.enrol(pod)
            vips = {"fd09::1": V6}
            if families == "dual":
                vips |= {"10.9.0.1": V4, "::ffff:10.9.0.1": V4}
            for vip, answers in vips.items():
                assert {dial(pod, vip, 80) for _ in range(60)} == answers
                with pytest.raises(ConnectionRefusedError):
                    dial(pod, vip, 81)
                for connected in (False, True):
                    seen = {udp(pod, vip, 53, connected=connected) for _ in range(60)}
                    assert {who for who, _ in seen} == answers
                    assert {peer for _, peer in seen} == {f"{vip}:53"}
            reasons = agent.state()["kernel"]["reasons"]
            assert reasons["connect6 unknown_port"] >= 1
            for hook in ("sendmsg6 balanced", "recvmsg6 restored", "connect6 balanced"):
                assert reasons[hook] >= 60, reasons
        finally:
            servers.close()
