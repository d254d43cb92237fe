"""Real namespaces and real servers; traffic stays inside namespaces that have no route out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.errors import LabError, MeshFileError
from kmesh.lab import netns
from kmesh.lab.connect import Dialling, Report, connect, order
from kmesh.lab.enrol import DaemonAway

if TYPE_CHECKING:
    from kmesh.lab.lab import Lab
    from tests.lab.conftest import Place

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]


def _dial(lab: Lab, target: str, connections: int = 5, **options: Any) -> Report:
    return connect(lab.pod("client"), order(lab, target, connections=connections, **options))


def _inside(name: str, *command: str) -> str:
    inside = ["nsenter", f"--net={netns.path(name)}", *command]
    return subprocess.run(inside, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("kind", ["tcp", "udp", "udp-connected"])
@pytest.mark.parametrize("target", ["10.1.0.2:8080", "[fd00:1::2]:8080"])
def test_pods_reach_each_other(place: Place, kind: str, target: str) -> None:
    lab = place.lab()
    lab.up(place.mesh)
    report = _dial(lab, target, kind=kind)
    assert report.answers == {"web": 5}
    assert report.peers == {target: 5}
    assert report.ok
    assert report.microseconds["max"] > 0


def test_failures_have_names(place: Place) -> None:
    lab = place.lab()
    lab.up(place.mesh)
    refused = _dial(lab, "10.1.0.2:81")
    assert (refused.errors, refused.ok) == ({"ECONNREFUSED": 5}, False)
    assert _dial(lab, "10.1.0.2:81", kind="udp-connected").errors == {"ECONNREFUSED": 5}


@pytest.mark.parametrize("host", ["web", "10.96.0.1", "[fd00:96::1]"])
def test_a_vip_that_nobody_translates_is_unreachable(place: Place, host: str) -> None:
    lab = place.lab()
    lab.up(place.mesh)
    assert _dial(lab, f"{host}:80").errors == {"ENETUNREACH": 5}


def test_no_namespace_has_a_way_out(place: Place) -> None:
    lab = place.lab()
    lab.up(place.mesh)
    assert _inside(f"kmesh-{place.name}-client", "ip", "-o", "route").split() == [
        "10.1.0.2",
        "dev",
        "eth0",
        "scope",
        "link",
    ]
    assert _inside(f"kmesh-{place.name}-net", "ip", "-o", "route") == ""
    assert "default" not in _inside(f"kmesh-{place.name}-client", "ip", "-6", "route")


def test_status_tells_what_is_there(place: Place) -> None:
    lab = place.lab()
    assert not lab.status().up
    up = lab.up(place.mesh)
    assert [(pod.name, pod.namespace, pod.server) for pod in up.pods] == [
        ("client", True, "alive"),
        ("web", True, "alive"),
    ]
    assert up.pods[0].enrolled is None
    assert "not enrolled: daemon not reachable at" in up.warnings[0]
    assert up.skipped
    assert lab.stop_server("web")
    assert [pod.server for pod in place.lab().status().pods] == ["alive", "dead"]
    assert _dial(lab, "10.1.0.2:8080").errors == {"ECONNREFUSED": 5}


def test_up_again_changes_nothing(place: Place) -> None:
    first = place.lab().up(place.mesh)
    second = place.lab().up(place.mesh)
    assert [pod.pid for pod in first.pods] == [pod.pid for pod in second.pods]


def test_up_mends_and_adapts(place: Place) -> None:
    lab = place.lab()
    before = {pod.name: pod.pid for pod in lab.up(place.mesh).pods}
    lab.stop_server("web")
    after = {pod.name: pod.pid for pod in lab.up(place.mesh).pods}
    assert after["client"] == before["client"]
    assert after["web"] not in (0, before["web"])
    place.edit("10.1.0.2", "10.1.0.3")
    place.edit("name: far, namespace: n, node: other", "name: far, namespace: n, node: lab")
    names = [pod.name for pod in lab.up(place.mesh).pods]
    assert sorted(names) == ["client", "far", "web"]
    assert _dial(lab, "10.1.0.3:8080").answers == {"web": 5}
    assert _dial(lab, "10.2.0.1:80").answers == {"far": 5}
    place.edit("name: far, namespace: n, node: lab", "name: far, namespace: n, node: other")
    lab.up(place.mesh)
    assert f"kmesh-{place.name}-far" not in netns.existing(place.name)


def test_a_bad_mesh_file_touches_nothing(place: Place) -> None:
    lab = place.lab()
    lab.up(place.mesh)
    place.edit("services:\n- ", "services: 3\nbad:\n- ")
    with pytest.raises(MeshFileError):
        lab.up(place.mesh)
    assert _dial(lab, "10.1.0.2:8080").ok


def test_a_required_enrolment_fails_without_a_daemon(place: Place) -> None:
    with pytest.raises(DaemonAway, match="daemon not reachable"):
        place.lab().up(place.mesh, enrol_required=True)


def test_down_removes_everything_and_may_be_repeated(place: Place) -> None:
    place.lab().up(place.mesh)
    removed = place.lab().down()
    assert f"namespace kmesh-{place.name}-net" in removed
    assert "server web" in removed
    place.assert_nothing_left()
    assert place.lab().down() == []


KILLED = """
import os, pkgutil, signal, sys
from pathlib import Path
from kmesh.lab.lab import Lab

owner, name = pkgutil.resolve_name(sys.argv[1]), sys.argv[2]
original = getattr(owner, name)

def dies(*args, **options):
    original(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, dies)
Lab(Path(sys.argv[3]), sys.argv[4]).up(Path(sys.argv[5]))
"""
MOMENTS = [
    ("kmesh.lab.netns", "make_hub"),
    ("kmesh.lab.netns", "make_pod"),
    ("kmesh.lab.netns", "connect_pods"),
    ("kmesh.lab.process:Starting", "__init__"),
    ("kmesh.lab.process:Starting", "wait"),
    ("kmesh.lab.process:Starting", "release"),
]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("then", ["down", "up"])
def test_killed_in_the_middle_of_up(place: Place, moment: tuple[str, str], then: str) -> None:
    arguments = [*moment, str(place.run_dir), place.name, str(place.mesh)]
    died = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert died.returncode == -signal.SIGKILL
    assert netns.existing(place.name)
    lab = place.lab()
    if then == "up":
        assert [pod.server for pod in lab.up(place.mesh).pods] == ["alive", "alive"]
        assert _dial(lab, "10.1.0.2:8080").ok
        place.assert_processes(2)
    lab.down()
    place.assert_nothing_left()


def test_held_connections_tell_when_their_server_dies(place: Place) -> None:
    lab = place.lab()
    lab.up(place.mesh)
    wish = order(lab, "10.1.0.2:8080", connections=20, hold=True)
    with Dialling(lab.pod("client"), wish) as dialling:
        assert dialling.progress() == {"held": 20}
        lab.stop_server("web")
        dialling.release()
        report = dialling.report()
    assert report.answers == {"web": 20}
    assert sum(report.broken.values()) == 20
    assert not report.ok


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("10.1.0.2", {}),
        ("10.1.0.2:0", {}),
        ("10.1.0.2:70000", {}),
        ("nobody:80", {}),
        ("10.1.0.2:80", {"connections": 100_001}),
        ("10.1.0.2:80", {"connections": 0}),
        ("10.1.0.2:80", {"connections": 10_001, "keep": 1.0}),
        ("10.1.0.2:80", {"keep": 601.0}),
    ],
)
def test_orders_are_bounded(place: Place, target: str, options: dict[str, Any]) -> None:
    with pytest.raises(LabError):
        order(place.lab(), target, mesh=place.mesh, **options)


def test_without_a_lab(place: Place) -> None:
    with pytest.raises(LabError, match="there is no lab"):
        place.lab().pod("client")
