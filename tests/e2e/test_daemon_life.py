"""The agent and the control plane come and go; the kernel keeps on."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmesh.bpf import removal
from kmesh.bpf.objects import MAPS
from tests.e2e.agent import KMESH, Dialler, environment
from tests.e2e.peers import pod as workload
from tests.e2e.peers import service
from tests.kernel.mesh import dial
from tests.kernel.net import namespace
from tests.waiting import until

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane, PlaneProcess
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

ADDRESS = "type.googleapis.com/istio.workload.Address"
CLIENT = workload("client", "10.1.0.9")
WEB = service("default/web", "10.9.0.1")
FIRST = workload("first", "10.1.0.1", of="default/web")
SECOND = workload("second", "10.1.0.2", of="default/web")
PRIVATE = service("default/private", "10.9.0.2", visibility="Namespace")
PRIVATE_END = workload("private-0", "10.1.0.3", of="default/private")
ONE, TWO, THREE = "10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"


def test_the_control_plane_comes_and_goes(
    far_agent: Agent, far_plane: PlaneProcess, pod: Namespace, servers: Servers
) -> None:
    agent, plane = far_agent, far_plane
    plane.write(CLIENT, WEB, FIRST, PRIVATE, PRIVATE_END)
    # Nobody is there: the agent stays, tries again, and does not claim to be in sync.
    agent.start()
    agent.enrol(pod)
    state = agent.until(lambda state: state["xds"]["ends"].get("connect", 0) > 2)
    assert (state["synced"], state["xds"]["connected"]) == (False, False)
    with pytest.raises(OSError, match="unreachable"):
        dial(pod, "10.9.0.1", 80)
    assert agent.row(pod)["view"] == 0
    # It appears: what was enrolled before the mesh was known sees it as its namespace may.
    plane.start()
    state = agent.until(lambda state: state["synced"])
    assert (state["xds"]["connected"], state["failing"]) == (True, {})
    assert dial(pod, "10.9.0.1", 80) == ONE
    until(lambda: agent.row(pod)["view"] != 0, agent.api.enrolled)
    assert dial(pod, "10.9.0.2", 80) == THREE
    received = state["xds"]["types"][ADDRESS]["resources"]
    # It dies: the kernel goes on, and pods can still be enrolled.
    plane.kill()
    before = agent.kernel()
    state = agent.until(lambda state: not state["xds"]["connected"])
    assert state["synced"], "what the kernel holds is still all that was ever sent"
    assert dial(pod, "10.9.0.1", 80) == ONE
    assert agent.kernel() == before
    with namespace() as late:
        agent.enrol(late)
        assert agent.row(late)["view"] == agent.row(pod)["view"]
        with pytest.raises(ConnectionRefusedError):
            dial(late, "10.9.0.1", 81)
        agent.withdraw(late)
    # It is back with another mesh: only the difference comes.
    plane.write(CLIENT, WEB, SECOND, PRIVATE, PRIVATE_END)
    plane.start()
    agent.until(
        lambda state: state["xds"]["connected"] and state["xds"]["types"][ADDRESS]["removed"]
    )
    state = agent.until(lambda state: state["synced"])
    assert dial(pod, "10.9.0.1", 80) == TWO
    assert state["xds"]["types"][ADDRESS]["resources"] == received + 1
    assert not any(state["restarts"].values())


def test_killed_and_started_again_under_connections(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, WEB, FIRST, PRIVATE, PRIVATE_END)
    agent.start_synced()
    agent.enrol(pod)
    until(lambda: agent.row(pod)["view"] != 0, agent.api.enrolled)
    before = agent.kernel()
    with Dialler(pod, "10.9.0.1", 80) as dialler:
        dialler.more(20)
        agent.kill()
        dialler.more(100)
        # The next one finds everything as wanted: not a single row is written.
        agent.start_synced()
        dialler.more(20)
        state = agent.state()
        assert (state["writer"]["ops"], state["failing"]) == (0, {})
        assert agent.kernel() == before
        assert agent.row(pod) == {
            "cookie": pod.cookie,
            "workload": "Kubernetes//Pod/default/client",
            "enrolled": True,
            "view": 1,
        }
        # What changes afterwards takes effect.
        plane.apply(CLIENT, WEB, SECOND, PRIVATE, PRIVATE_END)
        until(lambda: dial(pod, "10.9.0.1", 80) == TWO, agent.tail)
        assert dial(pod, "10.9.0.2", 80) == THREE
    assert dialler.failures == []


def test_an_endpoint_that_went_while_no_agent_lived_is_dropped_by_the_next(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    other = service("default/other", "10.9.0.3")
    plane.apply(CLIENT, WEB, FIRST, other)
    agent.start_synced()
    agent.enrol(pod)
    agent.kill()
    plane.apply(CLIENT, WEB, SECOND)
    assert dial(pod, "10.9.0.1", 80) == ONE, "nobody told the kernel yet"
    agent.start_synced()
    assert dial(pod, "10.9.0.1", 80) == TWO
    with pytest.raises(OSError, match="unreachable"):
        dial(pod, "10.9.0.3", 80)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_order_everything_stays_until_uninstall(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers, number: signal.Signals
) -> None:
    plane.apply(CLIENT, WEB, FIRST)
    agent.start_synced()
    agent.enrol(pod)
    before = agent.kernel()
    assert agent.stop(number) == 0
    assert dial(pod, "10.9.0.1", 80) == ONE
    assert agent.kernel() == before
    pins = {str(path) for path in (agent.bpffs / "kmesh").glob("*/*")}
    assert {Path(pin).name for pin in pins} >= {*MAPS, "connect4"}
    command = [*KMESH, "uninstall", "--json", "--bpf-fs-path", str(agent.bpffs)]
    command += ["--run-dir", str(agent.run_dir)]
    done = subprocess.run(command, env=environment(), capture_output=True, check=True)
    assert pins <= set(json.loads(done.stdout)["removed"])
    assert not (agent.bpffs / "kmesh").exists()
    with pytest.raises(OSError, match="unreachable"):
        dial(pod, "10.9.0.1", 80)


def test_a_second_agent_is_refused_and_the_first_is_named(agent: Agent, plane: Plane) -> None:
    agent.start_synced()
    assert agent.process is not None
    second = subprocess.run(
        agent.command("--run-dir", str(agent.run_dir / "second")),
        env=environment(), capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert second.returncode == 1
    words = " ".join(second.stderr.split())
    assert "KM1104" in words
    assert f"pid {agent.process.pid} (" in words
    remove = [*KMESH, "uninstall", "--bpf-fs-path", str(agent.bpffs)]
    refused = subprocess.run(remove, env=environment(), capture_output=True, text=True, check=False)
    assert (refused.returncode, "KM1104" in refused.stderr) == (1, True)
    assert agent.state()["synced"]


def test_a_second_agent_elsewhere_does_not_take_the_first_one_s_socket(
    agent: Agent, plane: Plane, tmp_path: Path
) -> None:
    agent.start_synced()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(elsewhere)], check=True)
    try:
        second = subprocess.run(
            agent.command("--bpf-fs-path", str(elsewhere)),
            env=environment(), capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert second.returncode == 1, second.stderr
        assert "another agent listens at" in second.stderr
        assert agent.state()["synced"]
    finally:
        removal.remove(str(elsewhere))
        subprocess.run(["umount", str(elsewhere)], check=True)


def test_without_an_agent_the_programs_let_go_and_come_back_with_the_mesh(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, WEB, FIRST)
    agent.start_synced("--dead-man", "0.0003")
    agent.enrol(pod)
    assert agent.state()["dead_man"]["let_go"] is False
    assert dial(pod, "10.9.0.1", 80) == ONE
    agent.kill()

    def gone() -> bool:
        try:
            dial(pod, "10.9.0.1", 80)
        except OSError:
            return True
        return False

    until(gone, agent.tail)
    agent.start_synced("--dead-man", "1")
    agent.until(lambda state: state["dead_man"]["ends_in"] > 3000)
    until(lambda: not gone(), agent.tail)
    assert agent.state()["kernel"]["reasons"]["connect4 abandoned"] >= 1


@pytest.mark.parametrize("content", [None, b"", b'{"format":1,"par', b'{"format":9,"parts":{}}'])
def test_the_state_file_may_be_lost_or_damaged_and_never_leads(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers, content: bytes | None
) -> None:
    plane.apply(CLIENT, WEB, FIRST)
    agent.start_synced()
    agent.enrol(pod)
    file = agent.run_dir / "state"
    until(lambda: file.exists() and str(pod.cookie).encode() in file.read_bytes(), agent.tail)
    before = agent.held()
    agent.kill()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    agent.start_synced()
    found = {None: "absent", b'{"format":9,"parts":{}}': "other"}.get(content, "damaged")
    assert agent.state()["state_file"]["found"] == found
    assert agent.row(pod)["enrolled"]
    assert dial(pod, "10.9.0.1", 80) == ONE
    until(lambda: agent.held().no_more_than(before), lambda: (agent.held(), before))
    # A pod that only the file knows is none.
    agent.kill()
    file.write_bytes(b'{"format":1,"parts":{"netns":{"77":"/run/netns/77"}}}')
    agent.start_synced()
    assert agent.state()["state_file"]["found"] == "read"
    assert [row["cookie"] for row in agent.api.enrolled()] == [pod.cookie]
