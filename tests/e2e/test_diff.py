"""kmesh diff against a real agent: nothing, a damaged kernel, a rejected resource, offline."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.abi.layout import VipKey
from kmesh.bpf import lib
from kmesh.cli.bundle.collect import Part, dump
from kmesh.cli.bundle.read import Bundle
from kmesh.cli.bundle.write import write
from kmesh.cli.client import Client
from kmesh.cli.main import main
from tests.e2e.peers import pod as workload
from tests.e2e.peers import policy, service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
Screen = pytest.CaptureFixture[str]
PORT_80 = "10.9.0.1 port 80 of default/web"


@pytest.fixture
def running(agent: Agent, plane: Plane, pod: Namespace) -> Agent:
    plane.apply(
        workload("client", "10.1.0.1", of="default/web"),
        service("default/web", "10.9.0.1"),
        policy("a", {"sourceIps": ["10.1.0.2/32"]}),
    )
    agent.start_synced("--audit-interval", "never")
    agent.enrol(pod)
    agent.until(lambda state: len(state["authorization"]["pods"]) == 1)
    return agent


def diff(agent: Agent, screen: Screen, *words: str) -> tuple[int, Any]:
    code = main(["diff", "--run-dir", str(agent.run_dir), "-o", "json", *words])
    return code, json.loads(screen.readouterr().out)


def rows(found: Any) -> list[tuple[str, ...]]:
    names = ("first", "second", "table", "what", "kind")
    return [tuple(each[name] for name in names) for each in found["differences"]]


def lose_port_80(agent: Agent) -> None:
    fd = lib.pinned(f"{agent.bpffs}/kmesh/maps/km_vip")
    assert fd is not None
    with contextlib.closing(os.fdopen(fd)):
        for key, _ in list(lib.rows(fd)):
            if VipKey.unpack(key).port == 80:
                lib.delete(fd, key)


def lose_a_source(agent: Agent) -> None:
    fd = lib.pinned(f"{agent.bpffs}/kmesh/maps/km_prefix")
    assert fd is not None
    with contextlib.closing(os.fdopen(fd)):
        for key, _ in list(lib.walk(fd)):
            lib.delete(fd, key)


def made(agent: Agent, path: Path, screen: Screen) -> Path:
    where = ["--run-dir", str(agent.run_dir), "--bpf-fs-path", str(agent.bpffs)]
    assert main(["bundle", *where, "-o", str(path)]) == 0
    screen.readouterr()
    return path


def edited(bundle: Path, edit: Callable[[Any], None]) -> Path:
    """The same bundle of an agent that had planned something else."""
    found, name = Bundle(bundle), "agent/planned.json"
    planned = found.document(name)
    edit(planned)
    parts = [
        Part(
            each["name"], each["layer"],
            dump(planned) if each["name"] == name else found.content(each["name"]),
            facts=each.get("map"),
        )
        for each in found.manifest["files"]
    ]  # fmt: skip
    path = bundle.with_name(f"{bundle.name}.edited")
    path.unlink(missing_ok=True)
    write(path, "now", parts)
    return path


def test_layers_that_agree(running: Agent, capsys: Screen) -> None:
    code, found = diff(running, capsys, "--wait", "30")
    assert (code, found["total"], found["differences"]) == (0, 0, [])
    assert found["compared"]["resources"] >= 3
    assert found["compared"]["rows"] > 10
    assert main(["diff", "--run-dir", str(running.run_dir)]) == 0
    assert capsys.readouterr().out.startswith("no difference; compared: ")


def test_a_damaged_kernel_is_named_row_by_row(
    running: Agent, capsys: Screen, tmp_path: Path
) -> None:
    assert diff(running, capsys, "--wait", "30")[0] == 0
    lose_port_80(running)
    code, found = diff(running, capsys)
    assert code == 1
    assert rows(found) == [("planned", "kernel", "km_vip", PORT_80, "missing")]
    code, found = diff(running, capsys, "--limit", "0")
    assert (code, found["total"], found["differences"]) == (1, 1, [])
    assert main(["diff", "--run-dir", str(running.run_dir)]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"planned -> kernel  km_vip  {PORT_80}  missing"
    assert shown[1].startswith("1 difference; compared: ")
    lose_a_source(running)
    bundle = made(running, tmp_path / "b.tar.gz", capsys)
    code, found = diff(running, capsys, "--bundle", str(bundle))
    assert code == 1
    source = ("planned", "kernel", "km_prefix", "set 1: 10.1.0.2", "missing")
    assert sorted(rows(found)) == [source, ("planned", "kernel", "km_vip", PORT_80, "missing")]
    assert found["compared"]["rows"] > 10
    running.audit()
    assert diff(running, capsys, "--wait", "30")[0] == 0


def test_a_rejected_resource_is_named_with_the_reason(
    running: Agent, plane: Plane, capsys: Screen
) -> None:
    assert diff(running, capsys, "--wait", "30")[0] == 0
    name = "Kubernetes//Pod/default/odd"
    plane.put(name, b"\xff\xff")
    assert name in plane.nack().message
    code, found = diff(running, capsys)
    assert (code, rows(found)) == (1, [("xds", "desired", "resources", name, "rejected")])
    assert found["differences"][0]["why"]


def test_a_bundle_tells_the_first_layer_that_differs(
    running: Agent, tmp_path: Path, capsys: Screen
) -> None:
    assert diff(running, capsys, "--wait", "30")[0] == 0
    bundle = made(running, tmp_path / "b.tar.gz", capsys)
    running.stop()

    def differs(edit: Callable[[Any], None]) -> list[tuple[str, ...]]:
        path = edited(bundle, edit)
        code, found = diff(running, capsys, "--bundle", str(path))
        assert code == bool(found["total"])
        return rows(found)

    def forget(planned: Any) -> None:
        planned["tables"]["km_vip"].popitem()

    def other(planned: Any) -> None:
        (prints,) = planned["sets"].values()
        prints |= {"default/a": "other", "default/b": "more"}

    assert differs(lambda _: None) == []
    assert {each[:3] + each[4:] for each in differs(forget)} == {
        ("desired", "planned", "km_vip", "missing"), ("planned", "kernel", "km_vip", "unplanned"),
    }  # fmt: skip
    pod = "Kubernetes//Pod/default/client"
    assert differs(other) == [
        ("desired", "planned", "policies", f"default/a of {pod}", "altered"),
        ("desired", "planned", "policies", f"default/b of {pod}", "unplanned"),
    ]
    why = ["why", "--bundle", "-o", "json", "10.1.0.2", "10.1.0.1:8080"]
    why.insert(2, str(edited(bundle, lambda planned: planned["tables"]["km_prefix"].clear())))
    assert main(why) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["differs"]["layer"] == "planned"
    assert found["admission"][0]["kernel"]["reason"] == found["admission"][0]["reason"]


def test_a_pod_without_policies_in_a_bundle(
    running: Agent, plane: Plane, capsys: Screen, tmp_path: Path
) -> None:
    plane.apply(
        workload("client", "10.1.0.1", of="default/web"), service("default/web", "10.9.0.1")
    )
    running.until(lambda state: state["authorization"]["pods"][0]["mode"] == "allow")
    client = Client(running.run_dir)
    running.until(lambda _: client.get("/debug/planned")["settled"])  # the old set's rows are gone
    code, found = diff(running, capsys, "--bundle", str(made(running, tmp_path / "b", capsys)))
    assert (code, rows(found)) == (0, [])


def test_no_agent_and_a_bad_bundle(tmp_path: Path, capsys: Screen) -> None:
    assert main(["diff", "--run-dir", str(tmp_path)]) == 1
    assert "KM1701" in capsys.readouterr().err
    (tmp_path / "b").write_text("no bundle")
    assert main(["diff", "--bundle", str(tmp_path / "b")]) == 1
    assert "is no bundle" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["diff", "--limit", "-1"])
    assert caught.value.code == 2
