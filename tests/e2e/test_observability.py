"""Real connections between two pods as Istio's metrics and lines of the access log: exact, with an
agent that is killed in the middle."""

from __future__ import annotations

import json
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.cli.client import Client
from tests.e2e.peers import free_port, pod, policy, service
from tests.e2e.test_metrics import samples, scrape
from tests.kernel.mesh import dial
from tests.kernel.net import Servers
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace

pytestmark = pytest.mark.e2e

SERVER, CLIENT, VIP = "10.1.0.1", "10.1.0.2", "10.96.0.1"
SERVER6, CLIENT6 = "fd01::1", "fd01::2"
GREETING, GREETING6 = len(f"{SERVER}:8080"), len(f"{SERVER6}:8080")
MESH = (
    service("shop/web.shop.svc", VIP, name="web"),
    pod(
        "web-1", SERVER, SERVER6, of="shop/web.shop.svc", namespace="shop", workloadName="web",
        canonicalName="web-c", canonicalRevision="v2",
    ),
    pod("client-1", CLIENT, CLIENT6, "fd01::3", workloadName="client", canonicalName="client-c"),
)  # fmt: skip


class Watched:
    """An agent that watches both ends of every connection."""

    def __init__(self, agent: Agent, folder: Path, ends: tuple[Namespace, Namespace]) -> None:
        self.agent, self.log = agent, folder / "access.log"
        self.server, self.client = ends
        self.port = free_port()
        self.servers = Servers(self.server)
        self.servers.tcp(SERVER, 8080)
        self.servers.tcp(SERVER6, 8080)

    def start(self, *more: str) -> None:
        """Start it; both pods are enrolled."""
        self.agent.start_synced(
            "--metrics-address", f"127.0.0.1:{self.port}", "--report-interval", "1",
            "--access-log-stdout", "false", "--access-log-file", str(self.log),
            "--access-log-format", "json", *more,
        )  # fmt: skip
        self.agent.enrol(self.server, "web-1", "shop")
        self.agent.enrol(self.client, "client-1")

    def total(self, name: str, **labels: str) -> float:
        """Sum over the series that have these labels."""
        found = samples(scrape(self.port)).items()
        return sum(v for (n, have), v in found if n == name and have >= labels.items())

    def lines(self, **fields: Any) -> list[dict[str, Any]]:
        """Of the access log, with these fields."""
        text = self.log.read_text() if self.log.exists() else ""
        found = [json.loads(line) for line in text.splitlines()]
        return [line for line in found if fields.items() <= line.items()]

    def connections(self) -> list[str]:
        """Lines of the scrape that are about connections."""
        return [line for line in scrape(self.port).splitlines() if line.startswith("istio_tcp")]

    def until(self, name: str, value: float, **labels: str) -> None:
        """Wait for a sum."""
        until(
            lambda: self.total(name, **labels) == value,
            lambda: (self.total(name, **labels), value, self.connections(), self.agent.tail()),
        )


@pytest.fixture
def watched(
    agent: Agent, plane: Plane, tmp_path: Path, ends: tuple[Namespace, Namespace]
) -> Iterator[Watched]:
    """Not started yet; the mesh is served."""
    plane.apply(*MESH)
    made = Watched(agent, tmp_path, ends)
    try:
        yield made
    finally:
        made.servers.close()


OPENED, CLOSED, FAILED, SENT, RECEIVED = (
    f"istio_tcp_{name}_total"
    for name in (
        "connections_opened", "connections_closed", "connections_failed", "sent_bytes",
        "received_bytes",
    )
)  # fmt: skip


def refused(client: Namespace, address: str, port: int) -> None:
    with client.socket() as one, pytest.raises(OSError, match=r"refused|not permitted"):
        one.connect((address, port))


def test_every_connection_counts_once_at_each_end_also_when_the_agent_dies(
    watched: Watched,
) -> None:
    watched.start("--access-log", "on")
    for _ in range(40):
        dial(watched.client, VIP, 80)
    watched.until(CLOSED, 40, reporter="source", destination_service="web.shop.svc")
    watched.agent.kill()
    for _ in range(30):
        dial(watched.client, VIP, 80)
    for _ in range(6):
        dial(watched.client, SERVER6, 8080)
    for _ in range(5):
        refused(watched.client, SERVER, 9999)
    watched.start("--access-log", "on")
    watched.until(CLOSED, 81, reporter="source")
    watched.until(CLOSED, 76, reporter="destination")
    for reporter in ("source", "destination"):
        here = {"reporter": reporter, "destination_service_name": "web"}
        here |= {"source_workload": "client", "destination_workload": "web"}
        direct = 0 if reporter == "source" else 6  # no service was dialled at the client
        assert watched.total(OPENED, **here) == 70 + direct
        assert watched.total(CLOSED, **here, response_flags="-") == 70 + direct
        assert watched.total(SENT, reporter=reporter) == 70 * GREETING + 6 * GREETING6
        assert watched.total(RECEIVED, reporter=reporter) == 0
    assert watched.total(FAILED, reporter="source", response_flags="CONNECT") == 5
    assert watched.total("kmesh_connection_failures_total", reason="econnrefused") == 5
    assert watched.total("kmesh_ring_lost_total") == 0
    until(lambda: len(watched.lines()) == 157, lambda: len(watched.lines()))
    found = Counter((line["direction"], line["level"]) for line in watched.lines())
    assert found == {("outbound", "info"): 76, ("inbound", "info"): 76, ("outbound", "error"): 5}
    sent = sum(line["bytes_sent"] for line in watched.lines(direction="inbound"))
    received = sum(line["bytes_recv"] for line in watched.lines(direction="outbound"))
    assert sent == received == watched.total(SENT, reporter="source"), "logs and metrics agree"


def test_a_line_says_who_and_what(watched: Watched) -> None:
    watched.start("--access-log", "on")
    dial(watched.client, VIP, 80)
    until(lambda: len(watched.lines()) == 2, watched.agent.tail)
    for line in watched.lines():
        assert line["message"] == "connection complete"
        assert (line["src.workload"], line["src.namespace"]) == ("client-1", "default")
        assert (line["dst.workload"], line["dst.namespace"]) == ("web-1", "shop")
        assert line["dst.service"] == "web.shop.svc"
        assert line["dst.addr"] == f"{SERVER}:8080"
        assert line["src.addr"].startswith(f"{CLIENT}:")


def test_unknown_peers_are_unknown_and_what_is_off_says_nothing(
    watched: Watched, plane: Plane
) -> None:
    plane.apply(*MESH[:2])
    watched.start()
    for _ in range(3):
        dial(watched.client, SERVER, 8080)
    unknown = {"source_workload": "unknown", "source_principal": "unknown"}
    watched.until(OPENED, 3, reporter="destination", destination_service="web.shop.svc", **unknown)
    assert watched.lines() == []


def test_denials_are_failures_with_the_flag_deny(watched: Watched, plane: Plane) -> None:
    deny = policy("locked", {"namespaces": [{"Exact": "default"}]}, action="Deny", namespace="shop")
    plane.apply(*MESH, deny)
    watched.start("--access-log", "on")
    for _ in range(4):
        refused(watched.client, VIP, 80)
    watched.until(FAILED, 4, reporter="destination", response_flags="DENY")
    watched.until(FAILED, 4, reporter="source", response_flags="CONNECT")
    until(lambda: len(watched.lines(direction="inbound")) >= 1, watched.agent.tail)
    line = watched.lines(direction="inbound")[0]
    assert line["level"] == "error"
    assert "explicitly denied by: shop/locked" in line["error"]


def test_a_long_connection_is_counted_while_it_is_open_also_by_the_next_agent(
    watched: Watched,
) -> None:
    watched.start("--access-log", "on", "--access-log-steps", "on")
    listener = watched.server.socket()
    with listener, watched.client.socket() as one:
        listener.bind((SERVER, 8081))
        listener.listen()
        one.connect((SERVER, 8081))
        other, _ = listener.accept()
        with other:
            one.sendall(b"x" * 1000)
            assert other.recv(1000, socket.MSG_WAITALL) == b"x" * 1000
            watched.until(RECEIVED, 1000, reporter="source")
            watched.until(RECEIVED, 1000, reporter="destination")
            messages = Counter(line["message"] for line in watched.lines())
            assert messages["connection opened"] == 2 and messages["connection complete"] == 0
            until(
                lambda: len(watched.lines(message="connection open", bytes_sent=1000)) >= 1,
                lambda: watched.lines(),
            )
            watched.agent.kill()
            one.sendall(b"x" * 500)
            assert other.recv(500, socket.MSG_WAITALL) == b"x" * 500
            watched.start("--access-log", "on", "--access-log-steps", "on")
            watched.until(RECEIVED, 1500, reporter="source")
            watched.until(RECEIVED, 1500, reporter="destination")
            assert watched.total(OPENED, reporter="source") == 1
            assert watched.total(CLOSED, reporter="source") == 0
    watched.until(CLOSED, 1, reporter="source")
    watched.until(CLOSED, 1, reporter="destination")
    assert watched.total(OPENED, reporter="destination") == 1
    assert watched.total(RECEIVED, reporter="source") == 1500
    until(lambda: len(watched.lines(message="connection complete")) == 2, watched.agent.tail)
    for line in watched.lines(message="connection complete"):
        assert line["bytes_sent"] + line["bytes_recv"] == 1500, "logs and metrics agree"


def test_switches_are_thrown_over_the_api_and_survive_the_agent(watched: Watched) -> None:
    watched.start()
    client = Client(str(watched.agent.run_dir))
    assert client.get("/switches")["access_log"] is False
    dial(watched.client, VIP, 80)
    watched.until(CLOSED, 1, reporter="destination")
    assert watched.lines() == []
    thrown = {"namespaces": {"shop": True}, "profiling": True, "early_refusal": True}
    client.post("/switches", body=thrown)
    in_force = client.get("/switches")
    assert in_force.items() >= thrown.items()
    dial(watched.client, VIP, 80)
    until(lambda: len(watched.lines(direction="inbound")) == 1, watched.agent.tail)
    watched.agent.kill()
    watched.start()
    assert client.get("/switches") == in_force
    assert watched.total("kmesh_program_run_time_measured") == 1
    dial(watched.client, VIP, 80)
    until(lambda: len(watched.lines(direction="inbound")) == 2, watched.agent.tail)
    assert watched.lines(direction="outbound") == [], "the client's namespace is not listed"
    watched.agent.stop()
    watched.start("--access-log", "on")
    assert client.get("/switches")["access_log"] is True, "options that changed win"
