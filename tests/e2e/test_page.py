"""The page and /top of a real agent, at its admin address and at its socket."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.cli.client import AgentRefused, Client
from kmesh.page import page
from tests.e2e.agent import until
from tests.e2e.peers import free_port, pod, service
from tests.kernel.mesh import dial

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace, Servers

pytestmark = pytest.mark.e2e


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
