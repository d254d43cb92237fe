"""The page and /top of a real agent, at its admin address and at its socket."""

from __future__ import annotations

import urllib.error
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.cli.client import AgentRefused, Client
from kmesh.page import page
from tests.e2e.peers import free_port, pod, service
from tests.kernel.conftest import ends
from tests.kernel.mesh import dial
from tests.kernel.net import Servers
from tests.waiting import until

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace

__all__ = ["ends"]
pytestmark = pytest.mark.e2e


def connect(netns: Namespace, server: str, port: int) -> None:
    """A TCP connection from the client's own address, until the server ends it."""
    with netns.socket() as dialler:
        dialler.bind(("10.1.0.2", 0))
        dialler.connect((server, port))
        while dialler.recv(100):
            pass


def test_real_connections_have_rates_by_service_and_workload(
    agent: Agent, plane: Plane, ends: tuple[Namespace, Namespace]
) -> None:
    server_pod, client_pod = ends
    plane.apply(
        service("default/web", "10.96.0.1"),
        service("default/none", "10.96.0.2"),
        pod("web", "10.1.0.1", of="default/web"),
        pod("client", "10.1.0.2"),
    )
    agent.start_synced()
    agent.enrol(client_pod, "client")
    agent.enrol(server_pod, "web")
    client = Client(agent.run_dir)
    assert client.get("/top")["total"]["connections"] is None
    with closing(Servers(server_pod)) as servers:
        servers.tcp("10.1.0.1", 8080)
        for _ in range(20):
            connect(client_pod, "10.96.0.1", 80)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            connect(client_pod, "10.96.0.2", 80)
    found: list[Any] = []

    def counted() -> bool:
        found[:] = [client.get("/top", {"window": 60, "sort": "connections"})]
        return bool(found[0]["total"]["connections"])

    until(counted, lambda: found)
    (top,) = found
    seconds = top["seconds"]
    first = top["services"]["rows"][0]
    assert first["key"] == "default/web"
    assert first["connections"] * seconds == pytest.approx(20)
    assert first["received"] * seconds == pytest.approx(20 * len("10.1.0.1:8080"))
    assert first["rtt_ms"] > 0
    assert first["failed"] == 0
    lines = [(line["source"], line["target"], line["inbound"]) for line in top["lines"]]
    assert ("Kubernetes//Pod/default/client", "default/web", False) in lines
    assert top["total"]["connections"] * seconds == pytest.approx(20)
    assert top["total"]["refused"] * seconds == pytest.approx(3)
    assert ("Kubernetes//Pod/default/client", "Kubernetes//Pod/default/web", True) in lines
    workloads = {row["name"]: row for row in top["workloads"]["rows"]}
    assert workloads["client"]["connections"] * seconds == pytest.approx(20)
    assert workloads["web"]["connections"] * seconds == pytest.approx(20)


def test_top_at_the_socket_and_at_the_address_and_the_page(
    agent: Agent, plane: Plane, servers: Servers, request: pytest.FixtureRequest
) -> None:
    netns: Namespace = request.getfixturevalue("pod")
    plane.apply(
        service("default/web", "10.96.0.1"),
        service("default/none", "10.96.0.2"),
        pod("web", "10.1.0.1", of="default/web"),
        pod("client", "10.1.0.2"),
    )
    port = free_port()
    agent.start_synced("--admin-address", f"127.0.0.1:{port}")
    agent.enrol(netns, "client")
    there, here = Client(address=f"127.0.0.1:{port}"), Client(agent.run_dir)
    until(lambda: "admin API at http://" in agent.logs.read_text(), agent.tail)

    first = here.get("/top")
    assert first["synced"]
    rows = {row["key"]: row for row in first["services"]["rows"]}
    assert rows["default/web"]["state"] == "ok"
    assert rows["default/web"]["healthy"] == 1
    assert rows["default/none"]["state"] == "no endpoint"
    assert [row["name"] for row in first["workloads"]["rows"]] == ["client"]
    assert {fill["table"] for fill in first["tables"]} >= {"km_vip", "km_slot"}

    for _ in range(5):
        dial(netns, "10.96.0.1", 80)
    found: list[Any] = []

    def counted() -> bool:
        found[:] = [there.get("/top")]
        return any(
            row["reason"] == "connect4 balanced" and row["per_second"]
            for row in found[0]["reasons"]
        )

    until(counted, lambda: found)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        assert answer.read() == page().body
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    one = there.get("/top/service", {"key": "default/web"})
    assert [each["addresses"] for each in one["members"]] == [["10.1.0.1"]]
    for wrong in ({"sort": "size"}, {"limit": "many"}, {"window": "-1"}):
        with pytest.raises(AgentRefused, match="top: ") as refusal:
            there.get("/top", wrong)
        assert refusal.value.code == "KM1801"
    with pytest.raises(AgentRefused) as unknown:
        there.get("/top/service", {"key": "default/other"})
    assert unknown.value.code == "KM1802"
    with pytest.raises(AgentRefused) as elsewhere:
        there.get("/enrol")
    assert elsewhere.value.status == 404, "only the socket enrols"
    assert there.get("/state")["synced"]
