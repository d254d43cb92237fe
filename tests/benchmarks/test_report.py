"""Tables and charts from the JSON of a run."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import _established, _goals, _markdown
from benchmarks._sure import MET, MISSED, OPEN

if TYPE_CHECKING:
    from pathlib import Path


def ratio(median: float, off: float = 0.0) -> dict[str, float]:
    return {"median": median, "low": median - off, "high": median + off, "values": 30}


def way(scenario: str, case: str, name: str, rate: float, cpu: float) -> dict[str, Any]:
    times = {f"p{part}_us": float(part) for part in (50, 90, 99, 999)}
    return times | {
        "scenario": scenario, "case": case, "way": name, "turns": 3, "others": 0.1,
        "rate": 1000 * rate, "rate_ratio": ratio(rate), "cpu_us": 10 * cpu,
        "cpu_us_ratio": ratio(cpu), "proxy_us": 1.0, "system_us": 5.0, "idle_us": 0.5,
    }  # fmt: skip


CASES = (("long", "1 open"), ("short", "1 at a time"), ("qps", "2,000/s"))


def mesh(
    kmesh: float = 1.0, off: float = 0.0, proxy: float = 3.0, cost: float = 0.2, most: float = 9.0
) -> dict[str, Any]:
    """``kmesh`` is its rate against direct; against the proxy it makes ``proxy`` times as many
    requests for ``cost`` of the CPU each, direct ``most`` times as many."""
    facts = dict.fromkeys(("version", "balances", "redirection", "encryption", "identity"), "x")
    numbers = {
        "direct": (1, 1),
        "kmesh": (kmesh, 1.0),
        "envoy-node": (0.3, 4.0),
        "direct 2": (1, 1),
    }
    rows = [way(*case, name, *each) for case in CASES for name, each in numbers.items()]
    for row in rows:
        if row["way"] == "kmesh":
            ratios = {"rate_ratio": ratio(proxy), "cpu_us_ratio": ratio(cost)}
            row["against"] = {"envoy-node": ratios}
        if row["way"] == "direct":
            ratios = {"rate_ratio": ratio(most), "cpu_us_ratio": ratio(1 / most)}
            row["against"] = {"envoy-node": ratios}
    bursts = [
        {"scenario": scenario, "case": case, "way": name, "rate_ratio": one, "others": 0.1}
        for scenario, case in CASES[:2]
        for name, one in (("kmesh", ratio(kmesh, off)), ("direct 2", ratio(0.99)))
    ]
    return {
        "plan": {"rounds": 5, "tool_rounds": 2},
        "contenders": dict.fromkeys(numbers, facts | {"idle": 0.004, "besides": "an audit"}),
        "rows": rows,
        "bursts": bursts,
        "memory": [{"way": "kmesh", "workloads": 1000, "process_mib": 50.0, "kernel_mib": 20.0}],
        "tools": {"wrk": "4.1.0-3", "iperf3": "3.12-1"},
        "missing": {"hey": "hey is not installed"},
    }


def scale() -> dict[str, Any]:
    cold = {"cpu_s": 2.0, "acked_s": 1.0, "stall_ms": 9.0, "stall_cpu_ms": 8.0,
            "peak_rss_mib": 140.0, "map_mib": 29.0}  # fmt: skip
    spread = {"p50": 1.0, "p99": 9.0, "max": 20.0}
    event = {"cpu_s": 0.05, "stall_ms": 5.0, "stall_cpu_ms": 4.0, "acked_ms": spread}
    points = [{"size": size, "resources": size, "cold": cold} for size in (1000, 2000)]
    fit = {"exponent": 1.0, "factor": 1.0, "steps": [1.0], "super_linear": []}
    events = {
        "reconnect": event | {"changed": 0, "bare_s": 0.03},
        _goals.ALL_CLAIMED: event | {"changed": 0},
        "churn 1,000/s": event | {"resources": 9, "visible_ms": spread},
    }
    curve = {"points": points, "fit": {"cpu_s": fit, "map_mib": fit}, "events": events}
    return {"curves": {"workloads": curve}, "failed": {"address ranges": "refused"}}


MACHINE = {"cpus": 2, "cpu": "x", "kernel": "6.1", "python": "3.11", "taken": "today"}


def test_text_outside_of_the_markers_stays() -> None:
    text = "a\n<!-- mesh -->\nold\n<!-- /mesh -->\nb\n<!-- scale --><!-- /scale -->\n"
    filled = _markdown.fill(text, "mesh", r"new \1 text")
    assert filled == (
        "a\n<!-- mesh -->\nnew \\1 text\n<!-- /mesh -->\nb\n<!-- scale --><!-- /scale -->\n"
    )
    assert _markdown.fill(filled, "mesh", r"new \1 text") == filled


@pytest.mark.parametrize(
    "text", ["", "<!-- mesh -->", "<!-- /mesh --><!-- mesh -->", 2 * "<!-- mesh --><!-- /mesh -->"]
)
def test_markers_have_to_be_there_once(text: str) -> None:
    with pytest.raises(_markdown.NoPlace, match="once each"):
        _markdown.fill(text, "mesh", "x")


def test_every_row_of_a_run_is_in_the_tables() -> None:
    text = _markdown.mesh({"machine": MACHINE, "results": mesh()})
    lines = text.splitlines()
    for scenario, case in CASES:
        assert f"**{scenario}**" in lines
        for name in ("direct", "kmesh", "envoy-node"):
            assert sum(line.startswith(f"| {case} | {name} |") for line in lines) == 1
    assert "Not measured: hey: hey is not installed" in lines
    assert "| kmesh | 1,000 | 50.0 | 20.0 |" in lines
    others = "Others used up to 0.10 CPUs in the slices kept, 0.10 in the bursts."
    assert f"{others} Load of other programs: wrk 4.1.0-3, iperf3 3.12-1." in lines
    assert "2 x x, Linux 6.1" in lines[0]
    assert "| kmesh | x | x | x | x | x | 0.40 | an audit |" in lines


ABSENT, BEYOND = _goals.ABSENT, _goals.BEYOND


@pytest.mark.parametrize(
    ("numbers", "verdicts"),
    [
        ({}, [MET] * 6),
        ({"kmesh": 0.95}, [MISSED, MET, MET, MET, MET, MET]),
        ({"kmesh": 0.96, "off": 0.02}, [OPEN, MET, MET, MET, MET, MET]),
        ({"kmesh": 0.89, "off": 0.02}, [MISSED, OPEN, MET, MET, MET, MET]),
        ({"proxy": 1.9}, [MET, MET, MISSED, MET, MISSED, MET]),
        ({"cost": 0.6}, [MET, MET, MET, MISSED, MET, MISSED]),
        ({"proxy": 1.3, "most": 1.3, "cost": 0.6}, [MET, MET] + [BEYOND] * 4),
        ({"proxy": 2.1, "most": 1.3}, [MET] * 6),
    ],
)
def test_goals_of_traffic(numbers: dict[str, float], verdicts: list[str]) -> None:
    """Case by case: long and short against direct; rate and CPU against the proxy of either."""
    goals = _goals.of_mesh(mesh(**numbers))
    assert [one.verdict for one in goals] == verdicts
    assert "direct itself" in goals[-1].found
    assert "direct 2: " in goals[0].found


def test_what_direct_itself_makes_is_said() -> None:
    goals = _goals.of_mesh(mesh(proxy=1.3, most=1.27))
    [rate] = [one for one in goals if one.what.startswith("requests per second, long")]
    assert rate.found == "1.3 (1.3-1.3); direct itself: 1.27 (1.27-1.27)"


def test_a_run_without_those_cases_says_so() -> None:
    results = mesh() | {"rows": [way("qps", "2,000/s", "kmesh", 1.0, 1.0)], "bursts": []}
    assert [one.verdict for one in _goals.of_mesh(results)] == [ABSENT]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.97, 1.02, MET), (0.96, 0.98, OPEN), (0.9, 0.96, MISSED)],
)
@pytest.mark.parametrize(("net", "cost"), [(1000, MET), (1001, MISSED)])
def test_goals_of_connect(low: float, high: float, verdict: str, net: int, cost: str) -> None:
    """The interval of every number of connections counts, that of direct 2 does not."""
    rows = [
        {"way": "kmesh", "mean": 1.0, "low": 0.99, "high": 1.01},
        {"way": "kmesh", "mean": (low + high) / 2, "low": low, "high": high},
        {"way": "direct 2", "mean": 0.5, "low": 0.5, "high": 0.5},
    ]
    names = ("VIP, with traffic", "VIP, random service", "enrolled, not a VIP")
    times = {name: {"median": 90 + net} for name in names}
    bpf = {"statistics_ns": {"median": 90}, "connect4_ns": times}
    goals = _goals.of_connect({"established": rows, "bpf": bpf})
    assert [one.verdict for one in goals] == [verdict, cost, cost, cost]
    assert [one.verdict for one in _goals.of_connect({"bpf": bpf})] == [cost] * 3


def test_an_interval_is_around_the_mean() -> None:
    found = _established.interval([0.98, 1.0, 1.02])
    assert found["mean"] == pytest.approx(1.0)
    assert found["high"] - found["mean"] == pytest.approx(1.96 * 0.02 / 3**0.5)
    assert found["mean"] - found["low"] == pytest.approx(found["high"] - found["mean"])
    assert _established.interval([0.9]) == {"mean": 0.9, "low": 0.9, "high": 0.9}


def test_goals_of_scale() -> None:
    assert {one.verdict for one in _goals.of_scale(scale())} == {MET}
    results = scale()
    results["curves"]["workloads"]["events"]["churn 1,000/s"]["stall_cpu_ms"] = 11.0
    results["curves"]["workloads"]["events"]["reconnect"]["cpu_s"] = 0.2
    verdicts = [one.verdict for one in _goals.of_scale(results)]
    assert verdicts == [MISSED, MET, MET, MISSED, MET, MET]
    assert _goals.of_scale(results)[0].found == "0.100; its bytes alone: 0.015"
    del results["curves"]["workloads"]["events"][_goals.ALL_CLAIMED]
    assert _goals.of_scale(results)[1].verdict == ABSENT
    text = _markdown.scale({"machine": MACHINE, "results": results})
    assert "**missed**" in text
    assert "Failed: address ranges: refused" in text
    assert "| churn 1,000/s | 9 | 0.05 | 1.0 / 9.0 / 20.0 | 1.0 / 9.0 / 20.0 |" in text


def authz(**more: float) -> dict[str, Any]:
    row = {"program_ns": 800.0, "p50_us": 30.0, "p50_us_ratio": 1.0, "cpu_us": 70.0,
           "cpu_us_ratio": 1.0, "keep_rate_ratio": 1.0, "in_force_ms": 1.0}  # fmt: skip
    found: dict[str, Any] = {
        "rules": [row | {"rules": count} for count in (0, 1, 10_000)],
        "listed": {"prefixes": 10_000, "in_force_ms": 100.0},
        "hammered": {"changes": 1000, "allowed": 9, "denied": 8, "wrong": 0,
                     "allowed_p50_us": 30.0, "denied_p50_us": 20.0},
        "evicted": {"open": 20, "forbidden": 10, "ended": 10, "ended_wrongly": 0,
                    "change_ms": 1.0, "end_ms": 100.0},
        "streamed": {"p50": 1.0, "p99": 9.0, "max": 20.0},
    }  # fmt: skip
    for path, value in more.items():
        part, _, name = path.partition("__")
        place = found[part][-1] if part == "rules" else found[part]
        place[name] = value
    return found


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []), ({"rules__cpu_us": 106.0}, [0]), ({"rules__program_ns": 1201.0}, [0]),
        ({"rules__keep_rate_ratio": 0.97}, [1]), ({"streamed__p99": 51.0}, [2]),
        ({"hammered__wrong": 1}, [3]), ({"evicted__end_ms": 1000.0}, [4]),
        ({"evicted__ended": 9}, [5]), ({"evicted__ended_wrongly": 1}, [5]),
    ],
)  # fmt: skip
def test_goals_of_policies(change: dict[str, float], missed: list[int]) -> None:
    results = authz(**change)
    goals = _goals.of_authz(results)
    assert [index for index, one in enumerate(goals) if one.verdict != MET] == missed
    text = _markdown.authz({"machine": MACHINE, "results": results})
    assert text.count("**missed**") == len(missed)
    assert "8 refused (20 us until ECONNREFUSED)" in text


def test_the_readme_and_its_charts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import report

    for name, results in (("mesh", mesh()), ("scale", scale()), ("authz", authz())):
        (tmp_path / f"{name}.json").write_text(json.dumps({"machine": MACHINE, "results": results}))
    readme = tmp_path / "README.md"
    readme.write_text("".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in report.PARTS))
    options = ["report", "--results", str(tmp_path), "--readme", str(readme)]
    monkeypatch.setattr(sys, "argv", options)
    report.main()
    once = readme.read_text()
    charts = {path.name: path.read_bytes() for path in (tmp_path / "charts").iterdir()}
    assert len(charts) == 4
    for content in charts.values():
        assert ET.fromstring(content).tag.endswith("svg")
    assert b"envoy-node" in charts["mesh-rate.svg"]
    report.main()
    assert readme.read_text() == once
    again = {path.name: path.read_bytes() for path in (tmp_path / "charts").iterdir()}
    assert again == charts
    old = {"machine": MACHINE, "results": {"rows": []}}
    (tmp_path / "mesh.json").write_text(json.dumps(old))
    report.main()
    assert readme.read_text() == once
    assert "no bursts, made otherwise" in capsys.readouterr().err
    readme.write_text("no place")
    with pytest.raises(SystemExit, match="once each"):
        report.main()


def test_the_readme_has_the_places() -> None:
    from benchmarks.report import PARTS, README

    for name in PARTS:
        assert _markdown.fill(README.read_text(), name, "x")
