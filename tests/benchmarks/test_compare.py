"""Two runs compared: only what is worse beyond the noise of the runs counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import compare
from benchmarks._fit import fit

if TYPE_CHECKING:
    from pathlib import Path


def ratio(median: float, half: float = 0.0) -> dict[str, float]:
    return {"median": median, "low": median - half, "high": median + half}


def mesh(rate: float, half: float = 0.01, again: float = 1.0, cpu: float = 1.0) -> dict[str, Any]:
    head = {"scenario": "long", "case": "1 open"}
    rows = {
        "direct": (ratio(1), ratio(1)),
        "direct 2": (ratio(again), ratio(1)),
        "kmesh": (ratio(rate, half), ratio(cpu)),
    }
    return {
        "rows": [
            head | {"way": way, "rate_ratio": one, "cpu_us_ratio": two}
            for way, (one, two) in rows.items()
        ]
    }


@pytest.mark.parametrize(
    ("before", "after", "verdicts"),
    [
        (mesh(1.0), mesh(0.9), ["worse", "same"]),
        (mesh(0.9), mesh(1.0), ["better", "same"]),
        (mesh(1.0), mesh(0.99), ["same", "same"]),
        (mesh(1.0, half=0.1), mesh(0.9), ["same", "same"]),  # its turns differed as much
        (mesh(1.0), mesh(0.9, again=0.85), ["same", "same"]),  # so did direct from direct
        (mesh(1.0), mesh(1.0, cpu=1.2), ["same", "worse"]),
        (mesh(1.0, cpu=1.2), mesh(1.0), ["same", "better"]),
    ],
)
def test_noise_is_what_the_runs_measured(
    before: dict[str, Any], after: dict[str, Any], verdicts: list[str]
) -> None:
    assert [one.verdict for one in compare.compare(before, after)] == verdicts


def test_bursts_are_compared_with_their_own_noise() -> None:
    def near(rate: float, again: float) -> dict[str, Any]:
        head = {"scenario": "long", "case": "1 open"}
        ways = {"kmesh": ratio(rate), "direct 2": ratio(again)}
        bursts = [head | {"way": way, "rate_ratio": one} for way, one in ways.items()]
        return mesh(1.0, half=0.2) | {"bursts": bursts}

    changes = compare.compare(near(1.0, 1.0), near(0.95, 1.0))
    assert [one.verdict for one in changes] == ["same", "same", "worse"]
    assert changes[-1].name == "bursts, long, 1 open: kmesh, rate x direct"
    assert compare.compare(near(1.0, 1.0), near(0.95, 0.94))[-1].verdict == "same"


def test_memory_is_compared_too() -> None:
    def held(mib: float) -> dict[str, Any]:
        row = {"way": "kmesh", "workloads": 1000, "process_mib": mib, "kernel_mib": 0.0}
        return mesh(1.0) | {"memory": [row]}

    changes = compare.compare(held(100), held(110))
    assert [one.verdict for one in changes] == ["same", "same", "worse"]
    assert changes[-1].name == "memory, 1,000 workloads: kmesh, process_mib"
    del (before := held(100))["memory"][0]["kernel_mib"]  # of a run that did not tell it
    assert [one.verdict for one in compare.compare(before, held(100))] == ["same"] * 3


def scale(cpu: float, noise: float, p99: float = 5.0) -> dict[str, Any]:
    cold = {"cpu_s": cpu, "peak_rss_mib": 100.0, "map_mib": 20.0}
    events = {"churn 1,000/s": {"cpu_s": 1.0, "visible_ms": {"p99": p99}}}
    points = [{"size": 1000, "cold": cold}]
    return {
        "curves": {"workloads": {"points": points, "events": events}},
        "noise": {"cpu_s": noise, "peak_rss_mib": 0.01, "map_mib": 0.0},
    }


def test_runs_of_scale() -> None:
    worse = [one.name for one in compare.compare(scale(1, 0.02), scale(1.2, 0.02))
             if one.verdict == "worse"]  # fmt: skip
    assert worse == ["workloads 1,000, cold start: cpu_s"]
    assert {one.verdict for one in compare.compare(scale(1, 0.1), scale(1.2, 0.1))} == {"same"}
    late = compare.compare(scale(1, 0.02), scale(1, 0.02, p99=20.0))
    assert [one.name for one in late if one.verdict == "worse"] == ["churn 1,000/s: visible p99 ms"]


def file(path: Path, results: dict[str, Any]) -> str:
    machine = {"cpu": "x", "cpus": 2, "kernel": "6.1"}
    path.write_text(json.dumps({"machine": machine, "results": results}))
    return str(path)


def test_the_exit_status_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = file(tmp_path / "a", mesh(1.0)), file(tmp_path / "b", mesh(0.8))
    assert compare.main([good, good]) == 0
    assert compare.main([bad, good]) == 0
    assert compare.main([good, bad]) == 1
    assert "kmesh, rate x direct" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", '{"results": {}}', '{"results": {}, "machine": {}}'])
def test_what_is_no_result_is_named(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_text(text)
    good = file(tmp_path / "a", mesh(1.0))
    assert compare.main([good, str(tmp_path / "x")]) == 2
    assert "compare: " in capsys.readouterr().err


def test_runs_of_different_benchmarks_are_not_compared(tmp_path: Path) -> None:
    two = file(tmp_path / "a", mesh(1.0)), file(tmp_path / "b", scale(1, 0.1))
    assert compare.main(list(two)) == 2


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_a_power_law_is_found(exponent: float) -> None:
    found = fit([(size, 3 * size**exponent) for size in (10, 100, 1000)])
    assert found.exponent == pytest.approx(exponent)
    assert found.factor == pytest.approx(3)
    assert found.steps == pytest.approx((exponent, exponent))
    assert found.super_linear == ([0, 1] if exponent > 1 else [])


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)], [(1.0, 1.0), (1.0, 2.0)], [(1, 0), (2, 1)]])
def test_no_curve_without_two_sizes(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="no curve"):
        fit(points)
