"""A pod that is guarded on its interface: what its clients meet, across a real pair of devices."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from kmesh.bpf import lib, removal
from kmesh.bpf.sockets import LISTEN
from kmesh.core.model import Match
from kmesh.errors import BpfError
from kmesh.tasks.places import Places
from kmesh.tasks.writer import Writer
from tests.core.meshes import workload
from tests.kernel.authz import policy, put, reach, source
from tests.kernel.net import TIMEOUT, Servers, run
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.core.model import Authorization
    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace

pytestmark = pytest.mark.kernel
SERVER, FRIEND, STRANGER = "10.1.0.1", "10.1.0.2", "10.1.0.3"
SERVER6, FRIEND6, STRANGER6 = "fd01::1", "fd01::2", "fd01::3"
FRIENDS = policy("friends", source(FRIEND, 32), source(FRIEND6, 128))
PROXY = 15006
TPROXY = f"""
table ip proxied {{
    chain incoming {{
        type filter hook prerouting priority mangle;
        tcp dport 8080 tproxy to :{PROXY} accept
    }}
}}
"""


@pytest.fixture
def guarded(mesh: Mesh, ends: tuple[Namespace, Namespace]) -> Iterator[Mesh]:
    """The pod serves TCP and UDP, and is guarded as a whole at first."""
    pod, _ = ends
    servers = Servers(pod)
    for address in (SERVER, SERVER6):
        servers.tcp(address, 8080)
        servers.tcp(address, 9090)
        servers.udp(address, 8080)
    try:
        mesh.steering.start_guarding()
        mesh.put(workload("server", SERVER, SERVER6), workload("friend", FRIEND, FRIEND6))
        mesh.tables.remember(pod.cookie, pod.path)
        mesh.enrol(pod, "server")
        yield mesh
    finally:
        servers.close()


def guard_interfaces(mesh: Mesh, pod: Namespace) -> None:
    if "km_ingress" not in mesh.plane.programs:
        pytest.skip("this kernel refuses the program")
    place = mesh.plane.guards.interfaces(pod.cookie)
    assert place is not None
    assert len(place) == 4, "one interface besides loopback"
    mesh.steering.guards.place(pod.cookie, place)
    mesh.settle()
    assert mesh.steering.guards.places.links == {pod.cookie: place} == mesh.plane.guards.places()


@pytest.fixture(params=["links", "filters"])
def inside(
    guarded: Mesh,
    ends: tuple[Namespace, Namespace],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Mesh:
    """Guarded on the interface, by a link or (as before Linux 6.6) by a filter."""
    if request.param == "filters":

        def refuse(*_: int) -> int:
            raise BpfError("no such links here", errno.EINVAL)

        monkeypatch.setattr(lib, "attach_interface", refuse)
    guard_interfaces(guarded, ends[0])
    return guarded


def answered(client: Namespace, mine: str, server: str, within: float = TIMEOUT) -> bool:
    """Whether a datagram is answered within so many seconds."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with client.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(within)
        sender.bind((mine, 0))
        with suppress(TimeoutError):
            sender.sendto(b"?", (server, 8080))
            return sender.recv(100) == f"{server}:8080".encode()
    return False


def test_who_may_come_in_comes_in_and_nobody_else(
    inside: Mesh, ends: tuple[Namespace, Namespace]
) -> None:
    _, client = ends
    put(inside, FRIENDS)
    for mine, server in ((FRIEND, SERVER), (FRIEND6, SERVER6)):
        assert reach(client, mine, server)
        assert answered(client, mine, server)
    for mine, server in ((STRANGER, SERVER), (STRANGER6, SERVER6)):
        assert not reach(client, mine, server), "refused at once, as a reset tells"
        assert not answered(client, mine, server, within=0.5)
    assert inside.count("INGRESS", "ALLOWED") == 4
    assert inside.count("INGRESS", "NOT_ALLOWED") == 4
    assert inside.count("LOOKUP", "ALLOWED") == 0, "the namespace as a whole is not guarded too"
    assert inside.verdicts()["default/friends", "ALLOWED"] == 4


def test_what_was_let_in_is_not_asked_again(
    inside: Mesh, ends: tuple[Namespace, Namespace]
) -> None:
    pod, client = ends
    with ExitStack() as stack:
        listener = stack.enter_context(pod.socket())
        listener.bind((SERVER, 7777))
        listener.listen()
        dialler = stack.enter_context(client.socket())
        dialler.bind((STRANGER, 0))
        dialler.connect((SERVER, 7777))
        accepted = stack.enter_context(listener.accept()[0])
        before = inside.count("INGRESS", "ALLOWED")
        put(inside, FRIENDS)
        for _ in range(100):
            dialler.sendall(bytes(2000))
            accepted.recv(4000)
        assert inside.count("INGRESS", "ALLOWED") == before
        assert inside.count("INGRESS", "NOT_ALLOWED") == 0


def test_answers_to_what_the_pod_asked_come_in(
    inside: Mesh, ends: tuple[Namespace, Namespace]
) -> None:
    pod, client = ends
    put(inside, policy("nobody"))
    others = Servers(client)
    try:
        others.tcp(STRANGER, 8080)
        others.udp(STRANGER, 8080)
        assert reach(pod, SERVER, STRANGER)
        for connect in (True, False):
            with pod.socket(kind=socket.SOCK_DGRAM) as sender:
                if connect:
                    sender.connect((STRANGER, 8080))
                    sender.send(b"?")
                else:
                    sender.sendto(b"?", (STRANGER, 8080))
                assert sender.recv(100) == f"{STRANGER}:8080".encode()
    finally:
        others.close()


def test_datagrams_in_pieces(inside: Mesh, ends: tuple[Namespace, Namespace]) -> None:
    pod, client = ends
    put(inside, FRIENDS)
    for mine, server in ((FRIEND, SERVER), (FRIEND6, SERVER6)):
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with (
            pod.socket(family, socket.SOCK_DGRAM) as receiver,
            client.socket(family, socket.SOCK_DGRAM) as sender,
        ):
            receiver.bind((server, 7777))
            sender.bind((mine, 0))
            sender.sendto(bytes(20_000), (server, 7777))
            assert len(receiver.recv(65_000)) == 20_000


def test_programs_are_renewed_and_links_go(inside: Mesh, ends: tuple[Namespace, Namespace]) -> None:
    pod, client = ends
    put(inside, FRIENDS)
    inside.plane.replace({"km_vip": 512})
    assert reach(client, FRIEND)
    assert not reach(client, STRANGER)
    inside.steering.guards.place(pod.cookie, b"")
    inside.steering.guards.mark()
    inside.settle()
    assert inside.plane.guards.places() == {pod.cookie: b""}

    def looked_up() -> bool:
        """The link on the interface is let go of a moment later by the kernel."""
        assert not reach(client, STRANGER)
        return inside.count("LOOKUP", "NOT_ALLOWED") >= 1

    until(looked_up)
    inside.steering.withdraw(pod.cookie)
    inside.settle()
    assert inside.plane.guards.places() == {}
    until(lambda: reach(client, STRANGER))


def removed(mesh: Mesh, client: Namespace) -> None:
    """Uninstalled: who was kept out comes in, and the kernel has nothing of ours."""
    put(mesh, FRIENDS)
    assert not reach(client, STRANGER)
    bpffs = mesh.plane.root.removesuffix("/kmesh")
    del mesh.tables  # it maps some into this process
    mesh.plane.close()
    found = removal.remove(bpffs)
    until(lambda: reach(client, STRANGER))
    assert removal.left(found.traces, Path(mesh.plane.root), 10.0) == []


def test_uninstall_leaves_no_link_in_a_namespace(
    guarded: Mesh, ends: tuple[Namespace, Namespace]
) -> None:
    removed(guarded, ends[1])


def test_uninstall_leaves_nothing_on_interfaces(
    inside: Mesh, ends: tuple[Namespace, Namespace]
) -> None:
    removed(inside, ends[1])


@pytest.fixture
def proxied(ends: tuple[Namespace, Namespace]) -> Iterator[Namespace]:
    """A proxy in the pod that takes the connections to port 8080 at a port of its own."""
    pod, _ = ends
    run("ip", "netns", "exec", pod.name, "nft", "-f", "-", text=TPROXY)
    stop = threading.Event()
    with pod.socket() as listener:
        listener.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
        listener.bind(("0.0.0.0", PROXY))
        listener.listen(64)
        listener.settimeout(0.1)

        def serve() -> None:
            while not stop.is_set():
                with suppress(TimeoutError):
                    listener.accept()[0].close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield pod
        stop.set()
        thread.join()


def port(number: int) -> Authorization:
    return policy("port", Match(destination_ports=(number,)))


def test_behind_a_transparent_proxy_policies_mean_the_port_that_was_dialled(
    guarded: Mesh, ends: tuple[Namespace, Namespace], proxied: Namespace
) -> None:
    _, client = ends
    sockets = guarded.plane.sockets(proxied.cookie)
    assert sockets is not None
    found = {s.local_port: s.transparent for s in sockets.list(1 << LISTEN)}
    sockets.close()
    assert (found[PROXY], found[8080]) == (True, False)
    put(guarded, port(PROXY))
    assert reach(client, STRANGER), "at the namespace as a whole only the proxy is seen"
    look(guarded)
    guarded.settle()
    (place,) = guarded.plane.guards.places().values()
    if "km_ingress" not in guarded.plane.programs:
        pytest.skip("this kernel refuses the program")
    assert struct.unpack("=I", place)[0] > 1
    assert not reach(client, STRANGER)
    put(guarded, port(8080))
    assert reach(client, STRANGER)
    assert not reach(client, STRANGER, port=9090)


def look(mesh: Mesh) -> None:
    """What the task that finds transparent proxies does from time to time."""
    places = Places(mesh.plane, Writer(mesh.tables, mesh.steering, lambda _: None), "auto")
    anyio.run(places.round, list(mesh.plane.guards.places()))
    assert places.statistics().failures == 0
