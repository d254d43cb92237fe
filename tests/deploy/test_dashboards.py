"""Dashboards and alerts ask only for what the agent exposes; promtool accepts the files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.deploy.queries import ADDED, DEPLOY, Query, exposed, queries, rules, used, variables

if TYPE_CHECKING:
    from pathlib import Path

EVERY = [*queries(), *variables()]


def missing(query: Query) -> set[str]:
    """Names in a query that nobody exposes."""
    names = exposed()
    asked = used(query.plain())
    unknown = set(asked.metrics) - set(names)
    for metric, labels in asked.metrics.items():
        unknown |= labels - names.get(metric, labels) - ADDED
    if asked.metrics.keys() <= names.keys():
        common = set.intersection(*(names[metric] for metric in asked.metrics))
        unknown |= asked.grouped - common - ADDED
    return unknown


def test_the_search_finds_what_is_wrong() -> None:
    for text, wrong in (
        ("rate(kmesh_nonsense_total[5m])", {"kmesh_nonsense_total"}),
        ('kmesh_synced{colour="blue"}', {"colour"}),
        ("sum by (colour) (kmesh_synced)", {"colour"}),
        ('sum by (map) (kmesh_map_entries{map!~"x_y"}) / kmesh_map_limit > 0.5', set()),
    ):
        assert missing(Query("", text)) == wrong, text


@pytest.mark.parametrize("query", EVERY, ids=[query.where for query in EVERY])
def test_every_query_names_what_the_agent_exposes(query: Query) -> None:
    assert used(query.plain()).metrics, query.text
    assert missing(query) == set()


def test_dashboards_are_as_the_tool_writes_them() -> None:
    tool = DEPLOY.parent / "tools" / "gen_dashboards.py"
    subprocess.run([sys.executable, str(tool), "--check"], check=True)


def test_every_alert_says_what_to_do() -> None:
    for rule in rules():
        assert rule["annotations"]["next_step"] and rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not there (Debian: package prometheus)")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60)


def test_promtool_accepts_the_alerts() -> None:
    found = promtool("check", "rules", str(DEPLOY / "prometheus" / "alerts.yaml"))
    assert found.returncode == 0, found.stdout + found.stderr


def test_promtool_accepts_the_scrape_configuration(tmp_path: Path) -> None:
    """Debian's build knows no Kubernetes: its two lines are exchanged for a fixed target."""
    text = (DEPLOY / "prometheus" / "scrape.yaml").read_text()
    kubernetes = "kubernetes_sd_configs:\n      - role: pod\n"
    assert kubernetes in text
    fixed = 'static_configs:\n      - targets: ["127.0.0.1:15020"]\n'
    (tmp_path / "scrape.yaml").write_text(text.replace(kubernetes, fixed))
    shutil.copy(DEPLOY / "prometheus" / "alerts.yaml", tmp_path)
    found = promtool("check", "config", str(tmp_path / "scrape.yaml"))
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_documents_tables_are_as_the_catalogue_has_them() -> None:
    tool = DEPLOY.parent / "tools" / "gen_metrics.py"
    subprocess.run([sys.executable, str(tool), "--check"], check=True)
