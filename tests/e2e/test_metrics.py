"""What a real agent exposes: every family of the catalogue, right numbers, both formats."""

from __future__ import annotations

import socket
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from kmesh.bpf import lib
from kmesh.core.catalogue import FAMILIES, LOGS, TRAFFIC, UPSTREAM
from tests.e2e.peers import free_port, pod, policy, service
from tests.kernel.mesh import dial
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace, Servers

pytestmark = pytest.mark.e2e

# Only with a control plane over TLS, and only after something was measured or went wrong.
CONDITIONAL = {
    "kmesh_xds_root_certificate_expiry_timestamp_seconds",
    "istio_xds_connection_terminations",
    "kmesh_task_restarts",
    *UPSTREAM,
    *(name for name in LOGS if name.startswith("kmesh_otlp")),
    *(name for name, family in TRAFFIC.items() if family.labels != ("table",)),
}


def scrape(port: int, accept: str = "text/plain") -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        text: str = answer.read().decode()
    return text


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Values by name and labels."""
    families: Any = read_text(text)
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in families
        for one in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    return samples(text).get((name, frozenset(labels.items())), 0)


def damage(agent: Agent, netns: Namespace) -> None:
    """Somebody takes a pod out of the kernel."""
    fd = lib.pinned(f"{agent.bpffs}/kmesh/maps/km_enrol")
    assert fd is not None
    with open(fd, closefd=True):
        lib.delete(fd, netns.cookie.to_bytes(8, "little"))
    with pytest.raises(OSError, match="unreachable"):
        dial(netns, "10.96.0.1", 80)


@pytest.fixture
def port() -> int:
    return free_port()


def test_the_agents_own_numbers(
    agent: Agent, plane: Plane, servers: Servers, port: int, request: pytest.FixtureRequest
) -> None:
    netns: Namespace = request.getfixturevalue("pod")
    plane.apply(
        service("default/web", "10.96.0.1"),
        pod("web", "10.1.0.1", of="default/web"),
        pod("client", "10.1.0.2"),
        policy("locked", {"namespaces": [{"Exact": "nobody"}]}),
    )
    agent.start_synced("--metrics-address", f"127.0.0.1:{port}", "--profiling")
    agent.enrol(netns, "client")
    for _ in range(7):
        dial(netns, "10.96.0.1", 80)
    # A count that a busy machine made slow is followed by a long pause.
    counted = lambda: value(scrape(port), "kmesh_map_entries", map="km_enrol") == 1  # noqa: E731
    until(counted, agent.tail, 5 * PATIENCE)
    damage(agent, netns)
    told = agent.audit()
    assert (told["differences"], told["exceptions"]) == ({"km_enrol": {"missing": 1}}, [])
    text = scrape(port)
    families: Any = read_text(text)
    found = {family.name.removesuffix("_info") for family in families}
    assert set(FAMILIES) - found - CONDITIONAL == set()
    assert found - set(FAMILIES) == set(), "what is exposed must be in the catalogue"
    assert value(text, "kmesh_program_exits_total", hook="connect4", reason="balanced") == 7
    assert value(text, "kmesh_program_run_time_measured") == 1
    assert value(text, "kmesh_program_runs_total", program="km_connect4") >= 7
    assert value(text, "kmesh_program_run_seconds_total", program="km_connect4") > 0
    assert value(text, "kmesh_pods_enrolled") == 1
    assert value(text, "kmesh_audit_differences_total", map="km_enrol", kind="missing") == 1
    for step in ("intended", "attached", "keyed", "alive"):
        who = {"namespace": "default", "pod": "client", "netns": str(netns.cookie)}
        assert value(text, "kmesh_pod_proof", **who, step=step) == 1
    assert dial(netns, "10.96.0.1", 80) == "10.1.0.1:8080"
    assert value(text, "kmesh_synced") == 1
    assert value(text, "kmesh_map_entries", map="km_enrol") == 1
    assert value(text, "kmesh_map_entries", map="km_vip") == len(agent.kernel()["km_vip"])
    assert value(text, "kmesh_map_limit", map="km_vip") == 1_000_000
    assert value(text, "kmesh_xds_held", type="Address") == 3
    assert value(text, "kmesh_authorization_policies") == 1
    assert value(text, "kmesh_config_visible_seconds_count") >= 1
    assert "# EOF" not in text


def test_openmetrics_reads_without_complaint(agent: Agent, port: int) -> None:
    agent.start("--metrics-address", f"127.0.0.1:{port}")
    until(lambda: bool(agent.state()), agent.tail)
    text = scrape(port, "application/openmetrics-text; version=1.0.0")
    families: Any = list(read_openmetrics(text))  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {"kmesh_build", "process_cpu_seconds"}


def test_a_busy_port_keeps_nobody_from_the_mesh(agent: Agent, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        agent.start_synced("--metrics-address", f"127.0.0.1:{port}")
        assert "no metrics at" in agent.tail()
    until(lambda: "metrics at http://" in agent.logs.read_text(), agent.tail)
    assert value(scrape(port), "kmesh_synced") == 1
