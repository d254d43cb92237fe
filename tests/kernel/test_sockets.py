"""One socket used more than once, and a socket that cannot remember what was dialled."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.core.meshes import WEB, service, workload
from tests.kernel.net import TIMEOUT

if TYPE_CHECKING:
    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace, Servers

pytestmark = pytest.mark.kernel
OTHER = "default/other.default.svc.cluster.local"


def blocking(pod: Namespace) -> socket.socket:
    """A socket whose failed connect leaves it as new; with a time-out of Python's it would not."""
    made = pod.socket()
    made.setblocking(True)
    patience = struct.pack("ll", int(TIMEOUT), 0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    return made


def test_a_tcp_socket_that_connects_again_shows_the_second_destination(
    mesh: Mesh, pod: Namespace, servers: Servers
) -> None:
    mesh.enrol(pod)
    servers.tcp("10.1.0.1", 8080)
    mesh.put(service(WEB, "10.9.0.1"), workload("dead", "10.1.0.2", of=WEB))
    mesh.put(service(OTHER, "10.9.0.2"), workload("live", "10.1.0.1", of=OTHER))
    mesh.put(workload("client", "10.1.0.9"))
    with blocking(pod) as client:
        with pytest.raises(ConnectionRefusedError):
            client.connect(("10.9.0.1", 80))
        client.connect(("10.9.0.2", 80))
        assert client.getpeername() == ("10.9.0.2", 80)
        assert client.recv(100) == b"10.1.0.1:8080"


def test_a_tcp_socket_that_leaves_the_mesh_shows_the_real_peer(
    mesh: Mesh, pod: Namespace, servers: Servers
) -> None:
    mesh.enrol(pod)
    servers.tcp("10.1.0.1", 8080)
    mesh.put(service(WEB, "10.9.0.1"), workload("dead", "10.1.0.2", of=WEB))
    mesh.put(workload("client", "10.1.0.9"))
    with blocking(pod) as client:
        with pytest.raises(ConnectionRefusedError):
            client.connect(("10.9.0.1", 80))
        client.connect(("10.1.0.1", 8080))
        assert client.getpeername() == ("10.1.0.1", 8080)


def test_without_memory_for_the_socket_the_connection_is_made_and_counted(
    mesh: Mesh, pod: Namespace, servers: Servers
) -> None:
    setting = Path("/proc/sys/net/core/optmem_max")
    if not pod.run(setting.exists):
        pytest.skip("this kernel has one optmem_max for all namespaces")
    mesh.enrol(pod)
    servers.tcp("10.1.0.1", 8080)
    mesh.put(service(WEB, "10.9.0.1"), workload("live", "10.1.0.1", of=WEB))
    mesh.put(workload("client", "10.1.0.9"))

    def dial_without_memory() -> tuple[bytes, object]:
        setting.write_text("1")
        with socket.socket() as client:
            client.settimeout(TIMEOUT)
            client.connect(("10.9.0.1", 80))
            return client.recv(100), client.getpeername()

    assert pod.run(dial_without_memory) == (b"10.1.0.1:8080", ("10.1.0.1", 8080))
    assert mesh.count("CONNECT4", "NO_STORAGE") == 1
