"""The commands against a real agent."""

from __future__ import annotations

import errno
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from kmesh.cli.bundle.read import Bundle
from kmesh.cli.bundle.replay import differences, replay
from kmesh.cli.bundle.write import BundleError
from kmesh.cli.main import main
from kmesh.core import addr
from kmesh.core.guard_why import wanted
from tests.e2e.agent import KMESH, environment
from tests.e2e.peers import pod as workload
from tests.e2e.peers import policy, service

if TYPE_CHECKING:
    from pathlib import Path

    from kmesh.cli.bundle.replay import Replayed
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
Screen = pytest.CaptureFixture[str]
MESH = (
    workload("client", "10.1.0.1", of="default/web"),
    service("default/web", "10.9.0.1"),
    policy("a", {"sourceIps": ["10.1.0.2/32"]}),
)


@pytest.fixture
def running(agent: Agent, plane: Plane, pod: Namespace) -> Agent:
    """An agent with a service, a policy and an enrolled pod."""
    plane.apply(*MESH)
    agent.start_synced()
    agent.enrol(pod)
    agent.until(lambda state: len(state["authorization"]["pods"]) == 1)
    return agent


def run(agent: Agent, command: str, *options: str) -> int:
    return main([command, "--run-dir", str(agent.run_dir), *options])


def test_check(running: Agent, plane: Plane, capsys: Screen) -> None:
    assert run(running, "check", "--wait", "30") == 0
    assert capsys.readouterr().out.startswith(
        "Healthy: in sync with the control plane; 1 pod enrolled; 1 service, 1 workload and "
        "1 policy in force."
    )
    running.stop()
    assert run(running, "check") == 1
    assert "KM1701" in capsys.readouterr().err


def test_check_names_what_is_wrong(agent: Agent, plane: Plane, capsys: Screen) -> None:
    plane.apply(*(service(f"default/s{i}", f"10.9.1.{i}") for i in range(1, 9)))
    agent.start("--max-vips", "4")
    agent.until(lambda state: len(state["failing"]) > 0)
    assert run(agent, "check") == 1
    text = capsys.readouterr().out
    assert text.startswith("Not healthy: ")
    assert "--max-vips is 4" in text


def test_bundle_has_the_kernel_s_tables(running: Agent, tmp_path: Path) -> None:
    where = tmp_path / "b.tar.gz"
    log = ("--log", str(running.logs))
    assert run(running, "bundle", "--bpf-fs-path", str(running.bpffs), "-o", str(where), *log) == 0
    found = Bundle(where)
    for name, rows in running.kernel().items():
        assert sorted(found.table(name) or []) == rows, name
        assert rows, name
    assert found.table("km_slot"), "the endpoint's slot"
    assert found.document("agent/state.json")["synced"]
    assert found.document("process.json")["command"][1:4] == ["-m", "kmesh", "daemon"]
    links = {each["link"]: each["program"]["name"] for each in found.document("kernel/links.json")}
    assert links["connect4"] == "km_connect4"
    missing = {each["name"] for each in found.manifest["missing"]}
    assert not {name for name in missing if name.startswith(("process", "versions", "doctor"))}


def test_doctor_knows_its_own(running: Agent, capsys: Screen) -> None:
    assert main(["doctor", "--bpf-fs-path", str(running.bpffs), "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["checks"]
    (pins,) = (each for each in found if each["name"] == "pins" and each["group"] == "System")
    assert pins["level"] == "ok"


def test_tail(running: Agent, plane: Plane, pod: Namespace, servers: Servers) -> None:
    plane.apply(*MESH, policy("d", {"sourceIps": ["10.1.0.3/32"]}, action="Deny"))
    plane.until_answered()
    command = [*KMESH, "tail", "--run-dir", str(running.run_dir), "-o", "json", "-n", "1"]
    told = subprocess.Popen(
        [*command, "--denied", "--pod", "default/client", "--service", "web"],
        stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    with told:
        running.until(lambda state: state["events"]["followers"] == 1)
        with pod.socket() as client:
            client.bind(("10.1.0.3", 0))
            assert client.connect_ex(("10.1.0.1", 8080)) == errno.ECONNREFUSED
        assert told.stdout is not None
        found = json.loads(told.stdout.readline())
        assert told.wait(30) == 0
    assert (found["kind"], found["reason"], found["policy"]) == ("denied", "denied", "default/d")
    assert found["destination_workload"] == "Kubernetes//Pod/default/client"
    running.until(lambda state: state["events"]["followers"] == 0)


def replayed(agent: Agent, where: Path) -> Replayed:
    place = ("--bpf-fs-path", str(agent.bpffs), "-o", str(where))
    assert run(agent, "bundle", *place) == 0
    return replay(Bundle(where))


def test_a_bundle_answers_like_the_agent(running: Agent, tmp_path: Path) -> None:
    found = replayed(running, tmp_path / "b.tar.gz")
    steering = found.steering
    assert found.rejected == {}
    assert [op.command for op in differences(steering)] == []
    live = running.state()["planner"]
    offline = steering.statistics()
    for name in ("workloads", "services", "records", "pods", "views"):
        assert getattr(offline, name) == live[name], name
    for client in ("10.1.0.2", "10.1.0.3"):
        answer = running.api.why(client, "10.1.0.1", 8080)
        verdict = wanted(steering.guards, addr.parse(client), addr.parse("10.1.0.1"), 8080)
        assert verdict is not None
        assert (verdict.reason.name.lower(), verdict.policy or None) == (
            answer["reason"], answer["policy"],
        )  # fmt: skip


def test_a_bundle_without_tables_says_so(running: Agent, tmp_path: Path) -> None:
    where = tmp_path / "b.tar.gz"
    assert run(running, "bundle", "--no-maps", "-o", str(where)) == 0
    with pytest.raises(BundleError, match=r"the bundle has no table km_"):
        replay(Bundle(where))
