"""Service traffic through the real programs: what an application sees."""

from __future__ import annotations

import errno
import socket
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.layout import Reason
from kmesh.core.model import Mode, Scope, Visibility
from tests.core.meshes import FAR, WEB, service, uid, workload
from tests.kernel.mesh import SMALL, Mesh, dial, refused
from tests.kernel.net import namespace

if TYPE_CHECKING:
    from tests.kernel.net import Namespace, Servers

pytestmark = pytest.mark.kernel
CLIENT = workload("client", "10.1.0.9")


def failure(pod: Namespace, address: str, port: int) -> int:
    with pytest.raises(OSError) as caught:
        dial(pod, address, port)
    return caught.value.errno or 0


@pytest.fixture
def web(mesh: Mesh, pod: Namespace, servers: Servers) -> Mesh:
    """Two endpoints on both families behind an IPv4 and an IPv6 VIP."""
    mesh.enrol(pod)
    for last in (1, 2):
        servers.tcp(f"10.1.0.{last}", 8080)
        servers.tcp(f"fd01::{last}", 8080)
        servers.udp(f"10.1.0.{last}", 8080)
        servers.udp(f"fd01::{last}", 8080)
        mesh.put(workload(f"w{last}", f"10.1.0.{last}", f"fd01::{last}", of=WEB))
    mesh.put(service(WEB, "10.9.0.1", "fd09::1"), CLIENT)
    return mesh


def test_tcp_is_balanced_over_the_endpoints_of_the_vip_s_family(web: Mesh, pod: Namespace) -> None:
    ipv4 = Counter(dial(pod, "10.9.0.1", 80) for _ in range(60))
    ipv6 = Counter(dial(pod, "fd09::1", 80) for _ in range(60))
    assert set(ipv4) == {"10.1.0.1:8080", "10.1.0.2:8080"}
    assert set(ipv6) == {"fd01::1:8080", "fd01::2:8080"}
    assert web.count("CONNECT4", "BALANCED") == 60
    assert web.count("CONNECT6", "BALANCED") == 60


def test_the_application_sees_the_vip_it_dialled(web: Mesh, pod: Namespace) -> None:
    with pod.socket() as client:
        client.connect(("10.9.0.1", 80))
        assert client.getpeername() == ("10.9.0.1", 80)
    with pod.socket(socket.AF_INET6) as client:
        client.connect(("fd09::1", 80))
        assert client.getpeername()[:2] == ("fd09::1", 80)


def test_an_ipv4_mapped_target_is_the_same_vip(web: Mesh, pod: Namespace) -> None:
    with pod.socket(socket.AF_INET6) as client:
        client.connect(("::ffff:10.9.0.1", 80))
        assert client.recv(100).decode() in ("10.1.0.1:8080", "10.1.0.2:8080")
        assert client.getpeername()[:2] == ("::ffff:10.9.0.1", 80)


def test_an_ipv6_vip_falls_back_to_an_ipv4_endpoint(web: Mesh, pod: Namespace) -> None:
    web.remove(uid("w1"), uid("w2"))
    web.put(workload("w3", "10.1.0.1", of=WEB))
    assert dial(pod, "fd09::1", 80) == "10.1.0.1:8080"


def test_an_ipv4_vip_with_only_ipv6_endpoints_refuses(web: Mesh, pod: Namespace) -> None:
    web.remove(uid("w1"), uid("w2"))
    web.put(workload("w3", "fd01::1", of=WEB))
    assert failure(pod, "10.9.0.1", 80) == refused()
    assert web.count("CONNECT4", "FAMILY") == 1


@pytest.mark.parametrize(
    ("vip", "family"), [("10.9.0.1", socket.AF_INET), ("fd09::1", socket.AF_INET6)]
)
def test_unconnected_udp_answers_come_from_the_vip(
    web: Mesh, pod: Namespace, vip: str, family: int
) -> None:
    answered = Counter[str]()
    for _ in range(40):
        with pod.socket(family, socket.SOCK_DGRAM) as client:
            client.sendto(b"?", (vip, 80))
            first, peer = client.recvfrom(100)
            client.sendto(b"?", (vip, 80))
            assert client.recvfrom(100)[0] == first, "a socket keeps its endpoint"
            assert peer[:2] == (vip, 80)
            answered[first.decode()] += 1
    assert len(answered) == 2


def test_connected_udp_sees_the_vip_and_forgets_it_when_it_connects_elsewhere(
    web: Mesh, pod: Namespace
) -> None:
    with pod.socket(kind=socket.SOCK_DGRAM) as client:
        client.connect(("10.9.0.1", 80))
        client.send(b"?")
        _, peer = client.recvfrom(100)
        assert peer == ("10.9.0.1", 80)
        assert client.getpeername() == ("10.9.0.1", 80)
        direct = ("10.1.0.1", 8080)
        client.connect(direct)
        assert client.getpeername() == direct


def test_one_socket_may_talk_to_two_vips(web: Mesh, pod: Namespace, servers: Servers) -> None:
    servers.udp("10.1.0.3", 9000)
    web.put(
        workload("d1", "10.1.0.3", of="default/db"),
        service("default/db", "10.9.0.2", ports=((53, 9000),)),
    )
    with pod.socket(kind=socket.SOCK_DGRAM) as client:
        client.sendto(b"?", ("10.9.0.1", 80))
        client.sendto(b"?", ("10.9.0.2", 53))
        peers = {client.recvfrom(100)[1] for _ in range(2)}
    assert peers == {("10.9.0.1", 80), ("10.9.0.2", 53)}


def test_an_unknown_port_is_refused_at_once(web: Mesh, pod: Namespace) -> None:
    assert failure(pod, "10.9.0.1", 81) == refused()
    assert failure(pod, "fd09::1", 81) == refused()
    with pod.socket(kind=socket.SOCK_DGRAM) as client, pytest.raises(OSError) as caught:
        client.sendto(b"?", ("10.9.0.1", 81))
    assert caught.value.errno == refused()
    assert web.count("CONNECT4", "UNKNOWN_PORT") == 1
    assert web.count("SENDMSG4", "UNKNOWN_PORT") == 1


def test_a_service_without_endpoints_refuses(web: Mesh, pod: Namespace) -> None:
    web.remove(uid("w1"), uid("w2"))
    assert failure(pod, "10.9.0.1", 80) == refused()
    assert web.count("CONNECT4", "NO_ENDPOINT") == 1


def test_strict_locality_without_anything_local_refuses(web: Mesh, pod: Namespace) -> None:
    web.put(
        service(WEB, "10.9.0.1", mode=Mode.STRICT, preference=(Scope.NODE,)),
        workload("w1", "10.1.0.1", of=WEB, profile=FAR),
        workload("w2", "10.1.0.2", of=WEB, profile=FAR),
    )
    assert failure(pod, "10.9.0.1", 80) == refused()
    assert web.count("CONNECT4", "STRICT_NO_LOCAL") == 1


def test_failing_open_is_a_choice_and_is_counted(bpffs: str, pod: Namespace) -> None:
    mesh = Mesh(bpffs, SMALL, open_reasons=1 << Reason.UNKNOWN_PORT)
    try:
        mesh.enrol(pod)
        mesh.put(service(WEB, "10.9.0.1"))
        # Passed on unsteered: this namespace has no route to the VIP.
        assert failure(pod, "10.9.0.1", 81) == errno.ENETUNREACH
        assert mesh.count("CONNECT4", "OPENED") == 1
        assert failure(pod, "10.9.0.1", 80) == refused()
    finally:
        mesh.close()


def test_a_namespace_that_is_not_enrolled_is_untouched(web: Mesh) -> None:
    with namespace("10.1.0.1") as other:
        assert failure(other, "10.9.0.1", 80) == errno.ENETUNREACH
    assert web.count("CONNECT4", "NOT_ENROLLED") >= 1
    assert web.count("CONNECT4", "BALANCED") == 0


def test_a_withdrawn_namespace_is_untouched_again(web: Mesh, pod: Namespace) -> None:
    dial(pod, "10.9.0.1", 80)
    web.steering.withdraw(pod.cookie)
    web.settle()
    assert failure(pod, "10.9.0.1", 80) == errno.ENETUNREACH


def test_other_destinations_are_untouched(web: Mesh, pod: Namespace, servers: Servers) -> None:
    servers.tcp("10.1.0.4", 7000)
    assert dial(pod, "10.1.0.4", 7000) == "10.1.0.4:7000"
    assert web.count("CONNECT4", "NOT_MESH") == 1


def test_each_endpoint_may_have_its_own_port(web: Mesh, pod: Namespace, servers: Servers) -> None:
    servers.tcp("10.1.0.1", 9001)
    servers.tcp("10.1.0.2", 9002)
    web.put(
        service(WEB, "10.9.0.1", ports=((80, 0),)),
        workload("w1", "10.1.0.1", of=WEB, ports=((80, 9001),)),
        workload("w2", "10.1.0.2", of=WEB, ports=((80, 9002),)),
    )
    assert {dial(pod, "10.9.0.1", 80) for _ in range(40)} == {"10.1.0.1:9001", "10.1.0.2:9002"}


def test_weights_are_kept_and_zero_is_never_chosen(
    web: Mesh, pod: Namespace, servers: Servers
) -> None:
    servers.tcp("10.1.0.3", 8080)
    web.put(
        workload("w1", "10.1.0.1", of=WEB, capacity=9),
        workload("w2", "10.1.0.2", of=WEB, capacity=1),
        workload("w3", "10.1.0.3", of=WEB, capacity=0),
    )
    answered = Counter(dial(pod, "10.9.0.1", 80) for _ in range(400))
    assert "10.1.0.3:8080" not in answered
    # 40 expected of 400; outside of 12..80 once in a million runs.
    assert 12 <= answered["10.1.0.2:8080"] <= 80


def test_the_longest_prefix_wins(web: Mesh, pod: Namespace, servers: Servers) -> None:
    servers.tcp("10.1.0.3", 1)
    servers.tcp("10.1.0.4", 2)
    wide, narrow = "default/wide", "default/narrow"
    web.put(
        workload("a", "10.1.0.3", of=wide), service(wide, "10.8.0.0/16", ports=((80, 1),)),
        workload("b", "10.1.0.4", of=narrow), service(narrow, "10.8.7.0/24", ports=((80, 2),)),
    )  # fmt: skip
    assert dial(pod, "10.8.1.1", 80) == "10.1.0.3:1"
    assert dial(pod, "10.8.7.1", 80) == "10.1.0.4:2"
    assert failure(pod, "10.8.7.1", 81) == refused()
    web.remove(narrow)
    assert dial(pod, "10.8.7.1", 80) == "10.1.0.3:1"
    web.remove(wide)
    assert failure(pod, "10.8.7.1", 80) == errno.ENETUNREACH


def test_clients_see_the_service_of_their_own_namespace(
    web: Mesh, pod: Namespace, servers: Servers
) -> None:
    servers.tcp("10.1.0.3", 1)
    mine = "other/web"
    web.put(
        workload("client", "10.1.0.8", namespace="other"),
        workload("o", "10.1.0.3", of=mine, namespace="other"),
        service(mine, "10.9.0.1", ports=((80, 1),), visibility=Visibility.NAMESPACE),
    )
    assert dial(pod, "10.9.0.1", 80) in ("10.1.0.1:8080", "10.1.0.2:8080")
    web.enrol(pod, "client", "other")
    assert dial(pod, "10.9.0.1", 80) == "10.1.0.3:1"


def test_the_programs_work_with_no_process_alive(web: Mesh, pod: Namespace) -> None:
    root = web.plane.root
    web.plane.close()
    assert {dial(pod, "10.9.0.1", 80) for _ in range(30)} == {"10.1.0.1:8080", "10.1.0.2:8080"}
    again = Mesh(
        root.removesuffix("/kmesh"), __import__("tests.kernel.conftest", fromlist=["SMALL"]).SMALL
    )
    web.plane, web.tables = again.plane, again.tables
    assert dial(pod, "10.9.0.1", 80) in ("10.1.0.1:8080", "10.1.0.2:8080")


def test_the_ports_of_a_service_are_many_and_share_one_segment(web: Mesh, pod: Namespace) -> None:
    many = tuple((port, 8080) for port in range(1000, 1200))
    web.put(service(WEB, "10.9.0.1", ports=many))
    for port in (1000, 1100, 1199):
        assert dial(pod, "10.9.0.1", port) in ("10.1.0.1:8080", "10.1.0.2:8080")
    assert failure(pod, "10.9.0.1", 1200) == refused()
    segments = {record.segment for record in web.steering.planner.records.values()} - {None}
    assert len(segments) == 1


def test_more_udp_flows_than_are_remembered_still_answer_from_the_vip(
    web: Mesh, pod: Namespace
) -> None:
    """The oldest flow is forgotten, never a new one refused; sending again remembers it anew."""
    sockets = [pod.socket(kind=socket.SOCK_DGRAM) for _ in range(4 * SMALL.flows)]
    try:
        for client in [*sockets, *sockets[:8]]:
            client.sendto(b"?", ("10.9.0.1", 80))
            assert client.recvfrom(100)[1] == ("10.9.0.1", 80)
    finally:
        for client in sockets:
            client.close()
    assert web.count("SENDMSG4", "NO_STORAGE") == 0
