"""Real programs on this kernel, in a private bpffs; everything is removed afterwards."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.core.meshes import WEB, service, workload
from tests.kernel.authz import FRIEND, FRIEND6, SERVER, SERVER6
from tests.kernel.mesh import SMALL, Mesh
from tests.kernel.net import Servers, namespace, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kernel.net import Namespace

ADDRESSES = (
    "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.9", "fd01::1", "fd01::2", "fd01::3",
)  # fmt: skip


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[str]:
    """A bpffs of the test's own. These tests need root: without it they fail, not skip."""
    assert os.geteuid() == 0, "kernel tests need root"
    where = tmp_path / "bpffs"
    where.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(where)], check=True)
    try:
        yield str(where)
    finally:
        subprocess.run(["umount", str(where)], check=True)


@pytest.fixture
def pod() -> Iterator[Namespace]:
    """A namespace with every address of the tests on its loopback, and no route out."""
    with namespace(*ADDRESSES) as made:
        yield made


@pytest.fixture
def servers(pod: Namespace) -> Iterator[Servers]:
    """Servers inside ``pod``."""
    made = Servers(pod)
    yield made
    made.close()


@pytest.fixture
def mesh(bpffs: str) -> Iterator[Mesh]:
    """The data plane, steered by a planner of the test's own."""
    made = Mesh(bpffs, SMALL)
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    """(pod, client) joined by a pair of devices; no route leads out of either."""
    with namespace() as pod, namespace() as client:
        lines = [f"link add eth0 netns {pod.name} type veth peer name eth0 netns {client.name}"]
        run("ip", "-batch", "-", text="\n".join(lines))
        for where, four, six in (
            (pod, ["10.1.0.1"], ["fd01::1"]),
            (client, ["10.1.0.2", "10.1.0.3"], ["fd01::2", "fd01::3"]),
        ):  # fmt: skip
            lines = ["link set lo up", "link set eth0 up"]
            lines += [f"addr add {address}/24 dev eth0" for address in four]
            lines += [f"addr add {address}/64 dev eth0 nodad" for address in six]
            run("ip", "-n", where.name, "-batch", "-", text="\n".join(lines))
        yield pod, client


@pytest.fixture
def steered(mesh: Mesh, pod: Namespace, servers: Servers) -> Mesh:
    """A service with one endpoint, and a pod that dials it."""
    mesh.enrol(pod)
    servers.tcp("10.1.0.1", 8080)
    mesh.put(workload("a", "10.1.0.1", of=WEB), service(WEB, "10.9.0.1"))
    return mesh


@pytest.fixture
def guarded(mesh: Mesh, pod: Namespace, servers: Servers) -> Mesh:
    """The pod is the server; its clients dial from other addresses of the namespace."""
    mesh.steering.start_guarding()
    for port in (8080, 9090):
        servers.tcp(SERVER, port)
        servers.tcp(SERVER6, port)
    servers.udp(SERVER, 8080)
    servers.udp(SERVER6, 8080)
    mesh.put(workload("server", SERVER, SERVER6), workload("friend", FRIEND, FRIEND6))
    mesh.tables.remember(pod.cookie, pod.path)
    mesh.enrol(pod, "server")
    return mesh
