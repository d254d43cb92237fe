"""A real Prometheus server scrapes a real agent: every query of ours runs there, and what it shows
is what happened."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.queries import DEPLOY, queries, variables
from tests.e2e.peers import free_port, pod, service
from tests.kernel.mesh import dial
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace, Servers

pytestmark = pytest.mark.e2e

CONFIGURATION = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{alerts}]
scrape_configs:
  - job_name: kmesh
    static_configs: [{{targets: ["127.0.0.1:{target}"]}}]
"""


class Prometheus:
    """A server on 127.0.0.1 that scrapes one agent every second."""

    def __init__(self, folder: Path, program: str, target: int) -> None:
        self._port = free_port()
        configuration = folder / "prometheus.yml"
        alerts = DEPLOY / "prometheus" / "alerts.yaml"
        configuration.write_text(CONFIGURATION.format(alerts=alerts, target=target))
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    *(f"--config.file={configuration}", f"--storage.tsdb.path={folder}/tsdb"),
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def api(self, path: str, **parameters: str) -> Any:
        """``data`` of an answer; fails with the server's words."""
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{query}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def value(self, query: str) -> float | None:
        """Of a query with one result; None without."""
        found = self.api("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def up(self) -> bool:
        """Whether it is ready and has scraped the agent."""
        try:
            ready = f"http://127.0.0.1:{self._port}/-/ready"
            urllib.request.urlopen(ready, timeout=20).close()
        except urllib.error.URLError:
            assert self.process.poll() is None, self._log.read_text()
            return False
        return self.value("up") == 1


@pytest.fixture
def prometheus(agent: Agent, tmp_path: Path) -> Iterator[Prometheus]:
    """A server, and the agent started with the port that it scrapes."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not there (Debian: package prometheus)")
    port = free_port()
    flags = ("--metrics-address", f"127.0.0.1:{port}", "--upstream-metric-names", "--profiling")
    agent.start(*flags)
    made = Prometheus(tmp_path, program, port)
    try:
        until(made.up, agent.tail)
        yield made
    finally:
        made.process.terminate()
        made.process.wait(20)


def test_a_real_server_scrapes_and_answers_every_query_of_ours(
    agent: Agent,
    plane: Plane,
    servers: Servers,
    prometheus: Prometheus,
    request: pytest.FixtureRequest,
) -> None:
    netns: Namespace = request.getfixturevalue("pod")
    plane.apply(
        service("default/web", "10.96.0.1"),
        pod("web", "10.1.0.1", of="default/web"),
        pod("client", "10.1.0.2"),
    )
    agent.until(lambda state: state["synced"])
    agent.enrol(netns, "client")
    for _ in range(5):
        dial(netns, "10.96.0.1", 80)
    balanced = 'kmesh_program_exits_total{hook="connect4",reason="balanced"}'
    until(lambda: prometheus.value(balanced) == 5, agent.tail)
    assert prometheus.value("kmesh_synced") == 1
    assert prometheus.value('kmesh_xds_held{type="Address"}') == 3
    chosen = {"service": "web", "namespace": "default", "workload": "web", "instance": ".*"}
    for each in (*queries(), *variables()):
        prometheus.api("query", query=each.plain(**chosen))
    metadata = prometheus.api("targets/metadata")
    assert {each["metric"]: each["type"] for each in metadata}["kmesh_map_entries"] == "gauge"


def test_a_healthy_agent_raises_no_alarm(
    agent: Agent, plane: Plane, prometheus: Prometheus
) -> None:
    plane.apply(pod("client", "10.1.0.2"))
    agent.until(lambda state: state["synced"])
    until(lambda: prometheus.value("kmesh_workloads") == 1, agent.tail)

    def evaluated() -> bool:
        found = prometheus.api("rules")["groups"][0]["rules"]
        return all(rule["health"] == "ok" for rule in found)

    until(evaluated, lambda: prometheus.api("rules"))
    assert [each for each in prometheus.api("alerts")["alerts"] if each["state"] == "firing"] == []
