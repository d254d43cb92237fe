"""Endpoints come and go under a real agent: what is open stays, what is new goes to the living."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.cli.client import Client
from kmesh.cli.main import main
from tests.e2e.peers import pod as workload
from tests.e2e.peers import service
from tests.kernel.mesh import dial
from tests.kernel.net import run
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
WEB, VIP = "default/web.default.svc.cluster.local", "10.9.0.1"
OLD, NEW, DEAD = "10.1.0.1", "10.1.0.5", "10.1.0.6"
Ends = tuple["Namespace", "Namespace"]


def mesh(*endpoints: str) -> list[dict[str, Any]]:
    """A service with these endpoints, and its client."""
    found = [workload(f"web-{address}", address, of=WEB) for address in endpoints]
    return [service(WEB, VIP), workload("client", "10.1.0.2"), *found]


class Echo:
    """Listeners of the server's namespace; connections that are accepted stay open."""

    def __init__(self, pod: Namespace) -> None:
        self._pod = pod
        self.listeners: dict[str, socket.socket] = {}

    def listen(self, *addresses: str) -> None:
        for address in addresses:
            self.listeners[address] = made = self._pod.socket()
            made.bind((address, 8080))
            made.listen()

    def accept(self, address: str) -> socket.socket:
        made, _ = self.listeners[address].accept()
        return made


@pytest.fixture
def echo(ends: Ends) -> Iterator[Echo]:
    """OLD and NEW listen, DEAD has an address and nobody there."""
    pod, _ = ends
    lines = [f"addr add {address}/32 dev eth0" for address in (NEW, DEAD)]
    run("ip", "-n", pod.name, "-batch", "-", text="\n".join(lines))
    made = Echo(pod)
    made.listen(OLD, NEW)
    yield made
    for each in made.listeners.values():
        each.close()


@pytest.fixture
def client(agent: Agent, plane: Plane, ends: Ends, echo: Echo) -> Namespace:
    """An enrolled client of a service with the endpoint OLD."""
    assert echo.listeners
    plane.apply(*mesh(OLD))
    agent.start_synced()
    agent.enrol(ends[1])
    return ends[1]


def connect(client: Namespace) -> socket.socket:
    made = client.socket()
    made.connect((VIP, 80))
    return made


def says(one: socket.socket, other: socket.socket) -> None:
    """Both ends of a connection still work."""
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(b"still here")
        assert receiver.recv(100) == b"still here"


def test_an_endpoint_s_removal_breaks_nothing_and_is_seen_at_once(
    plane: Plane, client: Namespace, echo: Echo
) -> None:
    with connect(client) as dialler, echo.accept(OLD) as server:
        says(dialler, server)
        plane.apply(*mesh(NEW))
        plane.until_answered()  # the acknowledgement says that the kernel has it
        for _ in range(50):
            connect(client).close()
            echo.accept(NEW).close()
        echo.listeners[OLD].setblocking(False)
        with pytest.raises(BlockingIOError):
            echo.accept(OLD)
        says(dialler, server)
        plane.apply(*mesh())
        plane.until_answered()
        with pytest.raises(OSError, match=r"refused|permitted"):
            dial(client, VIP, 80)
        says(dialler, server)
        assert dialler.getpeername() == (VIP, 80)


def test_an_endpoint_that_refuses_is_avoided_and_shown(
    agent: Agent, plane: Plane, client: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Client(agent.run_dir)
    plane.apply(*mesh(OLD, DEAD))
    plane.until_answered()
    assert asked.get("/switches")["avoid"] == 5.0
    asked.post("/switches", body={"avoid": 600})
    until(lambda: refused(client), agent.tail)
    assert not any(refused(client) for _ in range(50))
    found = asked.get("/avoid")
    assert found["seconds"] == 600
    (row,) = found["endpoints"]
    assert 0 < row.pop("seconds") <= 600
    assert row == {
        "client": "Kubernetes//Pod/default/client",
        "workload": f"Kubernetes//Pod/default/web-{DEAD}",
        "address": DEAD, "port": 8080, "service": WEB, "failures": 1,
    }  # fmt: skip
    assert agent.state()["kernel"]["reasons"]["connect4 moved"] > 0
    main(["why", "--run-dir", str(agent.run_dir), "default/client", f"{VIP}:80"])
    assert f"avoided    {DEAD}:8080 for" in capsys.readouterr().out
    agent.kill()
    assert not any(refused(client) for _ in range(50))
    agent.start_synced()
    assert asked.get("/avoid")["seconds"] == 600
    asked.post("/switches", body={"avoid": 0})
    assert asked.get("/avoid")["endpoints"] == []
    until(lambda: refused(client), agent.tail)


def refused(client: Namespace) -> bool:
    with client.socket() as dialler:
        return dialler.connect_ex((VIP, 80)) == errno.ECONNREFUSED


def test_what_is_left_of_a_removed_endpoint_ends_after_the_drain_time(
    agent: Agent, plane: Plane, client: Namespace, echo: Echo
) -> None:
    agent.stop()
    agent.start_synced("--drain", "0.2", "--drain-namespaces", "default,shop")
    agent.enrol(client)  # so that it knows the way into the namespace
    plane.apply(*mesh(OLD, NEW))
    plane.until_answered()
    with client.socket() as leaves, client.socket() as stays:
        leaves.connect((OLD, 8080))
        stays.connect((NEW, 8080))
        with echo.accept(OLD) as old, echo.accept(NEW) as new:
            plane.apply(*mesh(NEW))
            old.settimeout(PATIENCE)
            with pytest.raises(ConnectionResetError):
                old.recv(1)
            says(stays, new)
    drained = agent.until(lambda state: not state["drain"]["waiting"])["drain"]
    assert (drained["addresses"], drained["failures"]) == (1, 0)
