"""The mesh file as an operator edits it, and what the agent writes to its log."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.agent import environment
from tests.e2e.peers import pod as workload
from tests.e2e.peers import service
from tests.kernel.mesh import dial
from tests.waiting import until

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane, PlaneProcess
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

CLIENT = workload("client", "10.1.0.9")
WEB = service("default/web", "10.9.0.1")
FIRST, SECOND = (workload(f"web-{i}", f"10.1.0.{i}", of="default/web") for i in (1, 2))
ONE, TWO = "10.1.0.1:8080", "10.1.0.2:8080"


def test_the_kernel_follows_the_mesh_file(
    far_agent: Agent, far_plane: PlaneProcess, pod: Namespace, servers: Servers
) -> None:
    agent, plane = far_agent, far_plane
    plane.write(CLIENT, WEB, FIRST)
    plane.start()
    agent.start_synced()
    agent.enrol(pod)
    assert dial(pod, "10.9.0.1", 80) == ONE
    plane.write(CLIENT, WEB, SECOND)
    until(lambda: dial(pod, "10.9.0.1", 80) == TWO, plane.log.read_text)
    # An edit that cannot be used: line and key are shown, the last good state stays.
    revision = agent.state()["revision"]
    plane.mesh.write_text("workloads: []\nservices:\n- {name: x, vipz: []}\n")
    until(lambda: "mesh.yaml:3" in plane.log.read_text(), plane.log.read_text)
    assert "vipz" in plane.log.read_text()
    assert dial(pod, "10.9.0.1", 80) == TWO
    assert agent.state()["revision"] == revision
    # The next good one counts again, removals too.
    plane.write(CLIENT, WEB)
    agent.until(lambda state: state["planner"]["workloads"] == 1 and state["synced"])
    with pytest.raises(ConnectionRefusedError):
        dial(pod, "10.9.0.1", 80)
    plane.write(CLIENT)
    agent.until(lambda state: state["planner"]["records"] == 0 and state["synced"])
    with pytest.raises(OSError, match="unreachable"):
        dial(pod, "10.9.0.1", 80)


def test_a_log_in_json_is_one_object_a_line_to_the_end(
    agent: Agent, plane: Plane, far_plane: PlaneProcess
) -> None:
    options = ("--log-format", "json", "--log-level", "debug")
    agent.start(*options, "--xds-address", far_plane.address)
    agent.until(lambda state: state["xds"]["ends"].get("connect", 0) > 1)
    second = subprocess.run(
        agent.command(*options, "--run-dir", str(agent.run_dir / "second")),
        env=environment(), capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert second.returncode == 1
    assert agent.stop() == 0
    for text in (agent.logs.read_text(), second.stderr):
        lines = [json.loads(line) for line in text.splitlines()]
        assert lines
        assert all(set(line) >= {"level", "time", "scope", "message"} for line in lines)
    own = [json.loads(line) for line in agent.logs.read_text().splitlines()]
    assert any(line["scope"] == "kmesh.tasks.xds" and line["level"] == "warning" for line in own)
    assert any("KM1104" in json.loads(line)["message"] for line in second.stderr.splitlines())
