"""Every query of the dashboards and alert rules, and the names in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from kmesh.core.catalogue import FAMILIES
from kmesh.core.exposition import Kind

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
ADDED = {"job", "instance"}  # by Prometheus itself
STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
RANGE = re.compile(r"\[[^\]]*\]")
WORDS = {
    "sum", "rate", "count", "max", "min", "topk", "histogram_quantile", "increase", "time", "and",
    "or", "by", "on", "label_values",
}  # fmt: skip


class Query(NamedTuple):
    """One expression and where it stands."""

    where: str
    text: str

    def plain(self, **variables: str) -> str:
        """With Grafana's variables replaced."""
        text = self.text.replace("$__rate_interval", "1m")
        for name, value in variables.items():
            text = text.replace(f"${name}", value)
        return text


class Used(NamedTuple):
    """What a query asks for: metrics with the labels that it matches, and labels it groups by."""

    metrics: dict[str, set[str]]
    grouped: set[str]


def dashboards() -> list[dict[str, Any]]:
    found = [
        json.loads(path.read_text()) for path in sorted((DEPLOY / "dashboards").glob("*.json"))
    ]
    assert found
    return found


def rules() -> list[dict[str, Any]]:
    text = (DEPLOY / "prometheus" / "alerts.yaml").read_text()
    return [rule for group in YAML(typ="safe").load(text)["groups"] for rule in group["rules"]]


def queries() -> list[Query]:
    """Of every panel, variable and alert."""
    found = []
    for board in dashboards():
        for panel in board["panels"]:
            where = f"{board['title']}: {panel['title']}"
            found += [Query(where, target["expr"]) for target in panel["targets"]]
    found += [Query(rule["alert"], rule["expr"]) for rule in rules()]
    return found


def variables() -> list[Query]:
    """The series of ``label_values``, and the label as a grouping."""
    found = []
    for board in dashboards():
        for each in board["templating"]["list"]:
            if each["type"] == "query":
                match = re.fullmatch(r"label_values\((.*), (\w+)\)", each["query"])
                assert match, each
                text = f"count by ({match[2]}) ({match[1]})"
                found.append(Query(f"{board['title']}: ${each['name']}", text))
    return found


def used(query: str) -> Used:
    """Names in a query; good enough for ours, and strict: an unknown word is a metric."""
    bare = STRINGS.sub('""', RANGE.sub("", query))
    grouped = {label.strip() for match in GROUPING.finditer(bare) for label in match[1].split(",")}
    metrics: dict[str, set[str]] = {}
    for match in SELECTOR.finditer(GROUPING.sub("", bare)):
        name, braces = match[1], match[2]
        before = bare[: match.start()]
        if name in WORDS or (not braces and before.count("{") > before.count("}")):
            continue
        metrics.setdefault(name, set()).update(MATCHER.findall(braces or ""))
    return Used(metrics, grouped - {""})


def exposed() -> dict[str, set[str]]:
    """Labels by sample name, as the catalogue has them."""
    found: dict[str, set[str]] = {"up": set()}
    for family in FAMILIES.values():
        labels = set(family.labels)
        if family.kind is Kind.HISTOGRAM:
            found |= {f"{family.name}_sum": set(), f"{family.name}_count": set()}
            found[f"{family.name}_bucket"] = labels
        elif family.kind is Kind.SUMMARY:
            found |= {f"{family.name}_sum": labels, f"{family.name}_count": labels}
        else:
            found[family.sample] = labels
    return found
