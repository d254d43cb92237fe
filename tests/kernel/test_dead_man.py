"""The programs let go when the deadline has passed, and not before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.layout import SWITCH_SIZE, Switch
from kmesh.bpf import lib
from kmesh.cli.doctor import pinned
from kmesh.core.verdicts import OK, WARNING
from tests.core.meshes import WEB, service, workload
from tests.kernel.mesh import dial

if TYPE_CHECKING:
    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace, Servers

pytestmark = pytest.mark.kernel


def deadline(mesh: Mesh, seconds: int) -> None:
    """So far from now; 0 is never."""
    fd = mesh.plane.maps["km_switch"]
    row = Switch.unpack(lib.lookup(fd, bytes(4), SWITCH_SIZE) or bytes(SWITCH_SIZE))
    when = int(time.monotonic()) + seconds if seconds else 0
    lib.update(fd, bytes(4), row._replace(deadline=when).pack())


def reached(pod: Namespace) -> bool:
    with pod.socket() as client:
        client.bind(("10.1.0.2", 0))
        return client.connect_ex(("10.1.0.1", 8080)) == 0


def test_steering_and_guards_let_go_together_and_take_up_again(
    mesh: Mesh, pod: Namespace, servers: Servers
) -> None:
    servers.tcp("10.1.0.1", 8080)
    mesh.put(workload("a", "10.1.0.1", of=WEB), service(WEB, "10.9.0.1"))
    mesh.enrol(pod)
    mesh.plane.guards.paths[pod.cookie] = pod.path
    mesh.plane.guards.attach(pod.cookie, b"", mesh.plane.programs)
    for far in (0, 3600):
        deadline(mesh, far)
        assert dial(pod, "10.9.0.1", 80) == "10.1.0.1:8080"
        assert not reached(pod), "its guard has no record yet: closed"
    deadline(mesh, -1)
    with pytest.raises(OSError, match="unreachable"):
        dial(pod, "10.9.0.1", 80)
    assert reached(pod)
    assert mesh.count("CONNECT4", "ABANDONED") == 2
    assert mesh.count("LOOKUP", "ABANDONED") == 1
    deadline(mesh, 3600)
    assert dial(pod, "10.9.0.1", 80) == "10.1.0.1:8080"
    assert not reached(pod)


def test_doctor_tells(mesh: Mesh) -> None:
    bpffs = mesh.plane.root.removesuffix("/kmesh")

    def level() -> list[str]:
        return [each.level for each in pinned.found(bpffs) if each.name == "dead man"]

    assert level() == []
    deadline(mesh, 3600)
    assert level() == [OK]
    deadline(mesh, -60)
    assert level() == [WARNING]
