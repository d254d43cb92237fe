"""One socket used more than once; where it remembers what was dialled, and when it cannot."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.layout import RECENT_SIZE, Recent
from kmesh.bpf import lib
from tests.core.meshes import WEB, service, workload
from tests.kernel.net import TIMEOUT

if TYPE_CHECKING:
    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace, Servers

pytestmark = pytest.mark.kernel
OTHER = "default/other.default.svc.cluster.local"


def places(mesh: Mesh) -> list[Recent]:
    """Those that a socket has."""
    found = (Recent.unpack(value) for _, value in lib.rows(mesh.plane.maps["km_recent"]))
    return [each for each in found if each.socket]


def take_every_place(mesh: Mesh) -> None:
    """As if other sockets had them, so that each socket needs storage of its own."""
    fd = mesh.plane.maps["km_recent"]
    count = lib.map_info(fd).max_entries
    taken = (1 << 60).to_bytes(8, "little").ljust(RECENT_SIZE, b"\0")
    rows = [(index.to_bytes(4, "little"), taken) for index in range(count)]
    for start in range(0, count, lib.BATCH):
        _, error = lib.update_many(fd, rows[start : start + lib.BATCH])
        assert error is None


@pytest.fixture(params=["place", "storage"])
def web(request: pytest.FixtureRequest, mesh: Mesh, pod: Namespace, servers: Servers) -> Mesh:
    """A service with one endpoint, and sockets that remember in a place or in storage."""
    mesh.enrol(pod)
    if request.param == "storage":
        take_every_place(mesh)
    for address in ("10.1.0.1", "fd01::1"):
        servers.tcp(address, 8080)
        servers.udp(address, 8080)
    mesh.put(service(WEB, "10.9.0.1", "fd09::1"), workload("w", "10.1.0.1", "fd01::1", of=WEB))
    mesh.put(workload("client", "10.1.0.9"))
    return mesh


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("vip", ["10.9.0.1", "fd09::1", "::ffff:10.9.0.1"])
def test_whatever_it_is_the_application_sees_what_it_dialled(
    web: Mesh, pod: Namespace, vip: str, kind: socket.SocketKind
) -> None:
    with pod.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET, kind) as client:
        client.connect((vip, 80))
        if kind is socket.SOCK_DGRAM:
            client.send(b"?")
        said, sender = client.recvfrom(100)
        assert said.endswith(b":8080")
        assert client.getpeername()[:2] == (vip, 80)
        assert kind is socket.SOCK_STREAM or sender[:2] == (vip, 80)
        assert web.count("CONNECT6" if ":" in vip else "CONNECT4", "NO_STORAGE") == 0


def test_a_udp_socket_that_dials_again_shows_the_last_destination(
    web: Mesh, pod: Namespace
) -> None:
    with pod.socket(kind=socket.SOCK_DGRAM) as client:
        for destination in (("10.9.0.1", 80), ("10.1.0.1", 8080), ("10.9.0.1", 80)):
            client.connect(destination)
            assert client.getpeername() == destination
            client.send(b"?")
            assert client.recvfrom(100) == (b"10.1.0.1:8080", destination)


def test_places_are_given_back_when_sockets_close(
    mesh: Mesh, pod: Namespace, servers: Servers
) -> None:
    mesh.enrol(pod)
    servers.tcp("10.1.0.1", 8080)
    mesh.put(service(WEB, "10.9.0.1"), workload("w", "10.1.0.1", of=WEB))
    mesh.put(workload("client", "10.1.0.9"))
    sockets = [pod.socket(kind=kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) * 10]
    for each in sockets:
        each.connect(("10.9.0.1", 80))
    assert len({each.socket for each in places(mesh)}) == len(sockets)
    for each in sockets[5:]:
        each.close()
    assert len(places(mesh)) == 5
    for each in sockets[:5]:
        assert each.getpeername() == ("10.9.0.1", 80)
        each.close()
    assert places(mesh) == []


def test_a_socket_that_gets_a_place_later_forgets_its_storage(
    mesh: Mesh, pod: Namespace, servers: Servers
) -> None:
    mesh.enrol(pod)
    servers.udp("10.1.0.1", 8080)
    mesh.put(service(WEB, "10.9.0.1"), service(OTHER, "10.9.0.2"))
    mesh.put(workload("w", "10.1.0.1", of=WEB), workload("v", "10.1.0.2", of=OTHER))
    mesh.put(workload("client", "10.1.0.9"))
    take_every_place(mesh)
    with pod.socket(kind=socket.SOCK_DGRAM) as client:
        client.connect(("10.9.0.1", 80))
        assert client.getpeername() == ("10.9.0.1", 80)
        fd = mesh.plane.maps["km_recent"]
        for key, _ in list(lib.rows(fd)):
            lib.update(fd, key, bytes(RECENT_SIZE))
        client.connect(("10.9.0.2", 80))
        assert client.getpeername() == ("10.9.0.2", 80)
        client.connect(("10.1.0.1", 8080))
        assert client.getpeername() == ("10.1.0.1", 8080)


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
    take_every_place(mesh)
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


def test_a_place_that_another_socket_is_about_to_take_is_left_to_it(
    web: Mesh, pod: Namespace
) -> None:
    fd = web.plane.maps["km_recent"]
    for key, _ in list(lib.rows(fd)):
        lib.update(fd, key, Recent(0, bytes(48), 1, 0).pack())
    with pod.socket() as client:
        client.connect(("10.9.0.1", 80))
        assert client.getpeername() == ("10.9.0.1", 80)
        assert places(web) == []
    assert {Recent.unpack(value).claims for _, value in lib.rows(fd)} == {1}


@pytest.mark.parametrize("claims", [0, 1])
def test_a_place_is_free_for_the_next_socket_whoever_had_it(
    mesh: Mesh, pod: Namespace, servers: Servers, claims: int
) -> None:
    """Also an owner from before places had claims."""
    mesh.enrol(pod)
    servers.tcp("10.1.0.1", 8080)
    mesh.put(service(WEB, "10.9.0.1"), workload("w", "10.1.0.1", of=WEB))
    fd = mesh.plane.maps["km_recent"]
    with pod.socket() as client:
        client.connect(("10.9.0.1", 80))
        key, value = next(row for row in lib.rows(fd) if Recent.unpack(row[1]).socket)
        assert Recent.unpack(value).claims == 1
        lib.update(fd, key, Recent.unpack(value)._replace(claims=claims).pack())
        assert client.getpeername() == ("10.9.0.1", 80)
    assert {Recent.unpack(value).claims for _, value in lib.rows(fd)} == {0}
