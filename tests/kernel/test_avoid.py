"""Endpoints that do not take connections are avoided for a while, each client for itself."""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.layout import AVOIDING_SIZE, Avoid, Tally
from kmesh.bpf import lib
from kmesh.bpf.traffic import TrafficReader
from kmesh.core import addr
from kmesh.core.avoid import Avoided, in_force
from tests.core.meshes import WEB, service, workload
from tests.kernel.net import TIMEOUT, Servers, run
from tests.kernel.test_observe import switch
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace

pytestmark = pytest.mark.kernel
LIVE, DEAD, SILENT, CLIENT, VIP = "10.1.0.1", "10.1.0.4", "10.1.0.5", "10.1.0.2", "10.9.0.1"
LONG = 600_000  # ms
RETRANSMITS = 100  # offset of tcpi_total_retrans
MANY = 60  # draws of two: chance does not leave one of them out


@pytest.fixture
def client(mesh: Mesh, ends: tuple[Namespace, Namespace]) -> Iterator[Namespace]:
    """An enrolled client of a service with one endpoint that serves and one that refuses."""
    if "km_observe" not in mesh.plane.programs:
        pytest.skip("this kernel refuses the program")
    pod, client = ends
    run("ip", "-n", pod.name, "-batch", "-", text=f"addr add {DEAD}/32 dev eth0")
    servers = Servers(pod)
    servers.tcp(LIVE, 8080)
    try:
        mesh.put(
            workload("live", LIVE, of=WEB), workload("dead", DEAD, of=WEB),
            workload("client", CLIENT), service(WEB, VIP),
        )  # fmt: skip
        mesh.enrol(client, "client")
        mesh.enrol(pod, "live")
        switch(mesh, avoid_ms=LONG)
        yield client
    finally:
        servers.close()


def dial(pod: Namespace) -> int:
    """0 or the errno of one connection to the VIP."""
    with pod.socket() as dialler:
        return dialler.connect_ex((VIP, 80))


def until_refused(pod: Namespace) -> None:
    """Return after a connection that was refused; time may have to pass before."""
    until(lambda: dial(pod) == errno.ECONNREFUSED)


def avoided(mesh: Mesh) -> list[Avoided]:
    avoiding = lib.lookup(mesh.plane.maps["km_avoiding"], bytes(4), AVOIDING_SIZE)
    assert avoiding is not None
    return list(in_force(lib.rows(mesh.plane.maps["km_avoid"]), avoiding, time.monotonic_ns()))


def tally(mesh: Mesh, which: Tally) -> int:
    return TrafficReader(mesh.plane).tallies()[which]


def test_who_was_refused_goes_to_the_others(mesh: Mesh, client: Namespace) -> None:
    until_refused(client)
    (row,) = avoided(mesh)
    assert (row.addr, row.port, row.failures) == (addr.parse(DEAD), 8080, 1)
    assert LONG / 2000 < row.seconds <= LONG / 1000
    assert {dial(client) for _ in range(MANY)} == {0}
    assert 0 < mesh.count("CONNECT4", "MOVED") < MANY
    assert tally(mesh, Tally.AVOIDED) == 1


def test_other_clients_go_on_as_before(
    mesh: Mesh, client: Namespace, ends: tuple[Namespace, Namespace]
) -> None:
    until_refused(client)
    until_refused(ends[0])  # the list would have moved all of its connections
    assert mesh.count("CONNECT4", "MOVED") == 0


def test_the_last_endpoint_is_never_avoided(mesh: Mesh, client: Namespace) -> None:
    mesh.remove("Kubernetes//Pod/default/live")
    assert {dial(client) for _ in range(5)} == {errno.ECONNREFUSED}
    assert len(avoided(mesh)) == 1
    assert mesh.count("CONNECT4", "MOVED") == 0
    assert mesh.count("CONNECT4", "BALANCED") == 5


def test_time_forgets_and_a_second_failure_counts_twice(mesh: Mesh, client: Namespace) -> None:
    switch(mesh, avoid_ms=100)
    until_refused(client)
    until_refused(client)
    ((_, row),) = lib.rows(mesh.plane.maps["km_avoid"])
    assert Avoid.unpack(row).failures == 2
    assert tally(mesh, Tally.AVOIDED) == 1


def test_who_takes_connections_again_is_forgiven(
    mesh: Mesh, client: Namespace, ends: tuple[Namespace, Namespace]
) -> None:
    switch(mesh, avoid_ms=100)
    until_refused(client)
    servers = Servers(ends[0])
    servers.tcp(DEAD, 8080)
    try:
        deadline = time.monotonic() + TIMEOUT
        while list(lib.rows(mesh.plane.maps["km_avoid"])):
            assert dial(client) == 0
            assert time.monotonic() < deadline
    finally:
        servers.close()
    assert tally(mesh, Tally.FORGIVEN) == 1


def test_who_does_not_answer_is_avoided_when_the_client_gives_up(
    mesh: Mesh, client: Namespace
) -> None:
    nowhere = f"neigh add {SILENT} lladdr 02:00:00:00:00:99 dev eth0"
    run("ip", "-n", client.name, "-batch", "-", text=nowhere)
    mesh.remove("Kubernetes//Pod/default/live", "Kubernetes//Pod/default/dead")
    mesh.put(workload("silent", SILENT, of=WEB))
    with client.socket() as hasty:
        hasty.setblocking(False)
        assert hasty.connect_ex((VIP, 80)) == errno.EINPROGRESS
    assert not avoided(mesh)
    with client.socket() as patient:
        patient.setblocking(False)
        assert patient.connect_ex((VIP, 80)) == errno.EINPROGRESS
        until(lambda: retransmits(patient))
    assert [each.addr for each in avoided(mesh)] == [addr.parse(SILENT)]


def retransmits(dialler: socket.socket) -> int:
    info = dialler.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, RETRANSMITS + 4)
    return int.from_bytes(info[RETRANSMITS:], "little")


def test_without_the_switch_nothing_is_avoided(mesh: Mesh, client: Namespace) -> None:
    switch(mesh)
    until_refused(client)
    assert not avoided(mesh)
    until_refused(client)
