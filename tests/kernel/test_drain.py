"""What is bound to a removed endpoint ends, and nothing else does."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from kmesh.core.drain import Draining
from kmesh.tasks.drain import Drainer
from kmesh.tasks.ender import Ender
from tests.core.meshes import WEB, service, uid, workload
from tests.kernel.net import TIMEOUT, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace

pytestmark = [pytest.mark.kernel, pytest.mark.anyio]
STAYS, LEAVES, STAYS6, LEAVES6 = "10.1.0.1", "10.1.0.4", "fd01::1", "fd01::4"
PORT = 7777
WAYS = pytest.mark.parametrize("way", ["program", "sock_diag"])


class Writer(NamedTuple):
    """Works at once."""

    steering: Any

    async def ask(self, work: Callable[[], Any]) -> Any:
        return work()


class Talk(NamedTuple):
    """A TCP connection with its server's end, and a connected UDP socket of the client."""

    client: socket.socket
    server: socket.socket
    datagrams: socket.socket

    def lives(self) -> None:
        self.client.sendall(b"?")
        assert self.server.recv(1) == b"?"
        self.datagrams.send(b"?")
        with pytest.raises(BlockingIOError):
            self.datagrams.recv(1)

    def has_ended(self) -> None:
        with pytest.raises(ConnectionAbortedError):
            self.client.recv(1)
        with pytest.raises(ConnectionResetError):
            self.server.recv(1)
        with pytest.raises(ConnectionAbortedError):
            self.datagrams.recv(1)


@pytest.fixture
def talks(mesh: Mesh, ends: tuple[Namespace, Namespace]) -> Iterator[dict[str, Talk]]:
    """By address: what an enrolled client has with two endpoints of a service."""
    pod, client = ends
    lines = f"addr add {LEAVES}/32 dev eth0\naddr add {LEAVES6}/64 dev eth0 nodad"
    run("ip", "-n", pod.name, "-batch", "-", text=lines)
    mesh.put(
        workload("client", "10.1.0.2", "fd01::2"), service(WEB, "10.9.0.1", "fd09::1"),
        workload("stays", STAYS, STAYS6, of=WEB), workload("leaves", LEAVES, LEAVES6, of=WEB),
    )  # fmt: skip
    mesh.enrol(client, "client")
    mesh.tables.remember(client.cookie, client.path)
    with ExitStack() as stack:
        yield {
            address: talk(stack, pod, client, address)
            for address in (STAYS, LEAVES, STAYS6, LEAVES6)
        }


def talk(stack: ExitStack, pod: Namespace, client: Namespace, address: str) -> Talk:
    def made(where: Namespace, kind: int = socket.SOCK_STREAM) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return stack.enter_context(where.socket(family, kind))

    listener, dialler = made(pod), made(client)
    listener.bind((address, PORT))
    listener.listen()
    dialler.connect((address, PORT))
    silent, datagrams = made(pod, socket.SOCK_DGRAM), made(client, socket.SOCK_DGRAM)
    silent.bind((address, PORT))
    datagrams.connect((address, PORT))
    datagrams.setblocking(False)
    accepted = stack.enter_context(listener.accept()[0])
    accepted.settimeout(TIMEOUT)
    return Talk(dialler, accepted, datagrams)


def drainer(mesh: Mesh, way: str, delay: float = 0.0) -> Drainer:
    if way == "program" and "km_drain_tcp" not in mesh.plane.programs:
        pytest.skip("this kernel has no iterator that ends sockets")
    iterate = mesh.plane.iterate if way == "program" else lambda *_: False
    made = Drainer(
        Draining(delay, frozenset()), mesh.plane, Writer(mesh.steering),  # type: ignore[arg-type]
        Ender(iterate, mesh.plane.sockets),
    )  # fmt: skip
    mesh.steering.tell_left(made.left)
    return made


@WAYS
async def test_what_is_bound_to_a_removed_endpoint_ends(
    mesh: Mesh, talks: dict[str, Talk], way: str
) -> None:
    draining = drainer(mesh, way)
    await draining.round()
    mesh.remove(uid("leaves"))
    for each in talks.values():
        each.lives()
    await draining.round()
    for address in (LEAVES, LEAVES6):
        talks[address].has_ended()
    for address in (STAYS, STAYS6):
        talks[address].lives()
    assert mesh.count("EVICT", "GONE") == (4 if way == "program" else 0)
    found = draining.statistics()
    assert (found.addresses, found.failures, found.waiting) == (2, 0, 0)
    assert found.ended_over_sock_diag == (0 if way == "program" else 4)


@WAYS
async def test_an_address_that_is_used_again_is_left_alone(
    mesh: Mesh, talks: dict[str, Talk], way: str
) -> None:
    draining = drainer(mesh, way)
    mesh.remove(uid("leaves"))
    mesh.put(workload("next", LEAVES))
    await draining.round()
    talks[LEAVES].lives()
    talks[LEAVES6].has_ended()


async def test_nothing_ends_before_its_time(mesh: Mesh, talks: dict[str, Talk]) -> None:
    draining = drainer(mesh, "program", delay=600.0)
    mesh.remove(uid("leaves"))
    await draining.round()
    for each in talks.values():
        each.lives()
    assert draining.statistics().waiting == 2
