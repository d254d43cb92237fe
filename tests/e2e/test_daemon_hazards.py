"""What has gone wrong in other data planes, tried on this one with the agent running."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.abi.check import seal
from kmesh.abi.layout import Vip
from kmesh.bpf import lib
from tests.e2e.agent import environment
from tests.e2e.peers import pod as workload
from tests.e2e.peers import service
from tests.kernel.mesh import dial
from tests.kernel.net import namespace
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane, PlaneProcess
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

CLIENT = workload("client", "10.1.0.9")
WEB = service("default/web", "10.9.0.1", ports={80: 8080, 53: 8080})
FIRST, SECOND = (workload(f"web-{i}", f"10.1.0.{i}", of="default/web") for i in (1, 2))
NONE = service("default/none", "10.9.0.2")
ONE, TWO = "10.1.0.1:8080", "10.1.0.2:8080"


def fails(pod: Namespace, address: str, port: int) -> type[OSError]:
    """The kind of error that a connection meets."""
    with pytest.raises(OSError) as caught:
        dial(pod, address, port)
    return caught.type


def reasons(agent: Agent, hook: str) -> dict[str, int]:
    """Counts of one program in enrolled namespaces, by reason."""
    found = agent.state()["kernel"]["reasons"]
    rows = {name.partition(" ")[2]: n for name, n in found.items() if name.startswith(f"{hook} ")}
    rows.pop("not_enrolled", None)  # everybody else on this machine
    return rows


def test_every_outcome_of_every_connection_is_counted_once(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    wants_waypoint: dict[str, Any] = {"waypoint": {"destination": "default/wp"}}
    strict: dict[str, Any] = {"loadBalancer": {"mode": "Strict", "routingPreferences": ["Node"]}}
    plane.apply(
        CLIENT, WEB, FIRST, NONE,
        service("default/through", "10.1.0.3", loadBalancer={"mode": "Passthrough"}),
        service("other/secret", "10.9.0.4", visibility="Namespace"),
        service("default/wp-wanted", "10.9.0.5", **wants_waypoint),
        service("default/six", "10.9.0.6"),
        workload("six", "fd01::1", of="default/six"),
        service("default/near", "10.9.0.7", **strict),
        workload("far", "10.1.0.2", of="default/near", node="n2"),
    )  # fmt: skip
    agent.start_synced()
    agent.enrol(pod)
    for _ in range(5):
        assert dial(pod, "10.9.0.1", 80) == ONE
        assert dial(pod, "10.1.0.1", 8080) == ONE
        assert dial(pod, "10.1.0.3", 8080) == "10.1.0.3:8080"
    assert fails(pod, "10.9.0.2", 80) is ConnectionRefusedError
    assert fails(pod, "10.9.0.1", 81) is ConnectionRefusedError
    assert fails(pod, "10.9.0.5", 80) is ConnectionRefusedError
    assert fails(pod, "10.9.0.6", 80) is ConnectionRefusedError
    assert fails(pod, "10.9.0.7", 80) is ConnectionRefusedError
    assert fails(pod, "10.9.0.4", 80) is OSError
    ping(pod, "10.9.0.1")
    assert reasons(agent, "connect4") == {
        "balanced": 5, "not_mesh": 5, "passthrough": 5, "no_endpoint": 1, "unknown_port": 1,
        "waypoint": 1, "family": 1, "strict_no_local": 1, "invisible": 1, "other_protocol": 1,
    }  # fmt: skip


def ping(pod: Namespace, address: str) -> None:
    """Connect a socket that is neither TCP nor UDP; nothing is sent."""

    def connect() -> None:
        with open("/proc/sys/net/ipv4/ping_group_range", "w") as allowed:
            allowed.write("0 0")
        kind = (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        with socket.socket(*kind) as made, pytest.raises(OSError, match="unreachable"):
            made.connect((address, 0))

    pod.run(connect)


def test_failing_open_is_chosen_by_reason_and_counted(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    waypoint: dict[str, Any] = {"waypoint": {"destination": "default/wp"}}
    plane.apply(
        CLIENT, NONE, service("default/web", "10.9.0.1", **waypoint), FIRST,
        service("default/shadow", "10.1.0.2"),
    )  # fmt: skip
    agent.start_synced("--fail-open", "no-endpoint,waypoint")
    agent.enrol(pod)
    assert dial(pod, "10.9.0.1", 80) == ONE
    assert fails(pod, "10.9.0.2", 80) is OSError, "left as it was: no route"
    assert fails(pod, "10.9.0.2", 81) is ConnectionRefusedError, "this reason was not chosen"
    assert reasons(agent, "connect4") == {
        "balanced": 1, "no_endpoint": 1, "opened": 1, "unknown_port": 1,
    }  # fmt: skip
    # The choice is the next agent's: nothing of it stays behind.
    agent.stop()
    agent.start_synced()
    assert fails(pod, "10.9.0.2", 80) is ConnectionRefusedError
    assert fails(pod, "10.9.0.1", 80) is ConnectionRefusedError


def test_a_record_that_does_not_fit_together_is_refused_and_counted(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, WEB, FIRST)
    agent.start_synced()
    agent.enrol(pod)
    rows = dict(agent.kernel()["km_vip"])
    (key,) = (key for key in rows if key[20:22] == (80).to_bytes(2, "little"))
    good, row = rows[key], Vip.unpack(rows[key])
    torn = bytes([good[0] ^ 1]) + good[1:]
    foreign_slots = seal(key, row._replace(gen=row.gen + 1).pack())
    fd = lib.pinned(f"{agent.bpffs}/kmesh/maps/km_vip")
    assert fd is not None
    with closing(os.fdopen(fd)):
        for count, bad in enumerate((torn, foreign_slots), 1):
            lib.update(fd, key, bad)
            assert fails(pod, "10.9.0.1", 80) is ConnectionRefusedError
            assert reasons(agent, "connect4") == {"inconsistent": count}
    # The next agent mends it.
    agent.kill()
    agent.start_synced()
    assert dial(pod, "10.9.0.1", 80) == ONE


def test_established_connections_survive_their_endpoint_s_removal_and_the_agent_s_end(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, WEB, FIRST)
    agent.start_synced()
    agent.enrol(pod)
    with pod.socket() as listener, pod.socket() as client:
        listener.bind(("10.1.0.2", 9090))
        listener.listen(1)
        plane.apply(CLIENT, service("default/web", "10.9.0.1", ports={80: 9090}), SECOND)
        plane.until_answered()
        client.connect(("10.9.0.1", 80))
        server, _ = listener.accept()
        with server:
            plane.apply(CLIENT)
            agent.until(lambda state: state["planner"]["records"] == 0)
            agent.kill()
            agent.start_synced()
            client.sendall(b"still here?")
            assert server.recv(100) == b"still here?"
            server.sendall(b"yes")
            assert client.recv(100) == b"yes"
            assert client.getpeername() == ("10.9.0.1", 80)


def test_a_socket_that_connects_again_shows_its_new_peer(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, WEB, FIRST)
    agent.start_synced()
    agent.enrol(pod)
    with pod.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for peer in (("10.9.0.1", 53), ("10.1.0.1", 8080), ("10.9.0.1", 53), ("10.1.0.2", 8080)):
            client.connect(peer)
            assert client.getpeername() == peer


def test_an_agent_without_control_plane_leaves_what_it_adopted(
    far_agent: Agent, far_plane: PlaneProcess, pod: Namespace, servers: Servers
) -> None:
    agent, plane = far_agent, far_plane
    plane.write(CLIENT, WEB, FIRST)
    plane.start()
    agent.start_synced()
    agent.enrol(pod)
    before = agent.kernel()
    agent.kill()
    plane.kill()
    agent.start()
    state = agent.until(lambda state: state["xds"]["ends"].get("connect", 0) > 1)
    assert (state["synced"], state["writer"]["ops"]) == (False, 0)
    assert agent.kernel() == before
    assert agent.row(pod)["enrolled"]
    assert dial(pod, "10.9.0.1", 80) == ONE
    # Pods still come and go.
    with namespace() as other:
        agent.enrol(other)
        assert fails(other, "10.9.0.1", 81) is ConnectionRefusedError
        agent.withdraw(other)
        assert fails(other, "10.9.0.1", 81) is OSError
    # What went meanwhile is dropped once the mesh is known.
    plane.write(CLIENT)
    plane.start()
    agent.until(lambda state: state["synced"])
    assert agent.kernel()["km_vip"] == []


def test_a_start_that_fails_leaves_everything_as_it_was(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers, tmp_path: Path
) -> None:
    plane.apply(CLIENT, WEB, FIRST)
    agent.start_synced()
    agent.enrol(pod)
    agent.stop()
    before, pins = agent.kernel(), sorted(agent.bpffs.rglob("*"))
    (tmp_path / "file").write_text("not a directory")
    for options, said in (
        (("--cgroup2-path", str(tmp_path)), "--cgroup2-path"),
        (("--run-dir", str(tmp_path / "file" / "x")), str(tmp_path / "file")),
        (("--fail-open", "everything"), "--fail-open"),
    ):
        done = subprocess.run(
            agent.command(*options), env=environment(), capture_output=True, text=True,
            check=False, timeout=30,
        )  # fmt: skip
        assert done.returncode in (1, 2)
        assert said in "".join(done.stderr.split("\n"))
        assert "Traceback" not in done.stderr
        assert sorted(agent.bpffs.rglob("*")) == pins
        assert agent.kernel() == before
        assert dial(pod, "10.9.0.1", 80) == ONE


def test_a_link_that_was_removed_is_made_again(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, WEB, FIRST)
    agent.start_synced()
    agent.enrol(pod)
    agent.stop()
    (agent.bpffs / "kmesh/links/connect4").unlink()
    until(lambda: reaches_nobody(pod), agent.tail)
    agent.start_synced()
    assert dial(pod, "10.9.0.1", 80) == ONE


def reaches_nobody(pod: Namespace) -> bool:
    """Whether the VIP is steered no more: a link goes a moment after its last pin."""
    try:
        dial(pod, "10.9.0.1", 80)
    except OSError:
        return True
    return False


def test_services_without_vip_and_pods_of_the_host_network(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    both: dict[str, Any] = {"services": {"default/headless": {}, "default/web": {}}}
    plane.apply(
        CLIENT, WEB, service("default/headless"),
        workload("a", "10.1.0.1", networkMode="HostNetwork") | both,
        workload("b", "10.1.0.1", networkMode="HostNetwork") | both,
    )  # fmt: skip
    agent.start_synced()
    agent.enrol(pod)
    # A headless service is no row; its pods are dialled directly and left alone.
    assert len(agent.kernel()["km_vip"]) == 3
    assert dial(pod, "10.1.0.1", 8080) == ONE
    assert dial(pod, "10.9.0.1", 80) == ONE
    assert plane.until_answered().nacks == 0
    agent.kill()
    agent.start_synced()
    assert agent.state()["writer"]["ops"] == 0
