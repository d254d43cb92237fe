"""Charts of the results as SVG; the same numbers make the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Json = dict[str, Any]
COLOURS = {
    "direct": "#9aa0a6", "direct 2": "#c4c8cc", "kmesh": "#1a73e8", "nft": "#34a853",
    "envoy-sidecar": "#ea4335", "envoy-node": "#fa903e", "envoy-node-out": "#fdd663",
}  # fmt: skip
OTHER = "#a142f4"
CHOSEN = (
    ("long", "1 open"), ("long", "64 open"), ("short", "1 at a time"), ("short", "64 at a time"),
    ("size", "65,536 B"), ("density", "8 clients"), ("hops", "3 hops, 16 open"),
)  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Write a figure without a date or a random id."""
    with mpl.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def bars(results: Json, value: Callable[[Json], float], title: str, *, log: bool) -> Figure:
    """A group of bars for each chosen case, one bar a contender; 1 is direct."""
    by_key = {(row["scenario"], row["case"], row["way"]): row for row in results["rows"]}
    ways = list(dict.fromkeys(row["way"] for row in results["rows"] if row["way"] != "direct"))
    groups = [one for one in CHOSEN if (*one, "direct") in by_key]
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(ways))
    for number, way in enumerate(ways):
        at = [place + number * width for place, one in enumerate(groups) if (*one, way) in by_key]
        high = [value(by_key[(*one, way)]) for one in groups if (*one, way) in by_key]
        axes.bar(at, high, width, label=way, color=COLOURS.get(way, OTHER))
    axes.axhline(1, color="black", linewidth=0.8)
    labels = [f"{scenario}\n{case}" for scenario, case in groups]
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(groups))], labels)
    if log:
        axes.set_yscale("log")
    axes.set_title(title)
    axes.legend(ncols=len(ways), fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return figure


def percentiles(results: Json, scenario: str, case: str) -> Figure:
    """Latency by percentile, one line a contender."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    names = ("p50_us", "p90_us", "p99_us", "p999_us")
    for row in results["rows"]:
        if (row["scenario"], row["case"]) != (scenario, case):
            continue
        axes.plot(range(len(names)), [row[name] for name in names], marker="o",
                  label=row["way"], color=COLOURS.get(row["way"], OTHER))  # fmt: skip
    axes.set_xticks(range(len(names)), ["p50", "p90", "p99", "p99.9"])
    axes.set_yscale("log")
    axes.set_ylabel("microseconds")
    axes.set_title(f"{scenario}, {case}: latency")
    axes.legend(fontsize="small")
    return figure


def growth(results: Json) -> Figure:
    """CPU of a cold start by size, one line a curve, both axes logarithmic."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, curve in results["curves"].items():
        sizes = [one["size"] for one in curve["points"]]
        exponent = curve["fit"]["cpu_s"]["exponent"]
        axes.plot(sizes, [one["cold"]["cpu_s"] for one in curve["points"]], marker="o",
                  label=f"{name} ({exponent:.2f})")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("size")
    axes.set_ylabel("CPU seconds")
    axes.set_title("cold start: CPU by the size of the mesh (exponent)")
    axes.legend(fontsize="small")
    return figure


def of_mesh(results: Json, folder: Path) -> list[Path]:
    """The charts of a run of mesh."""
    made = {
        "mesh-rate.svg": bars(results, lambda row: float(row["rate_ratio"]["median"]),
                              "requests per second, x direct", log=False),
        "mesh-cpu.svg": bars(results, lambda row: float(row["cpu_us_ratio"]["median"]),
                             "CPU per request, x direct (logarithmic)", log=True),
        "mesh-latency.svg": percentiles(results, "qps", "2,000/s"),
    }  # fmt: skip
    return _all(made, folder)


def of_scale(results: Json, folder: Path) -> list[Path]:
    """The chart of a run of scale."""
    return _all({"scale-cpu.svg": growth(results)}, folder)


def _all(figures: dict[str, Figure], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        save(figure, folder / name)
    return [folder / name for name in figures]
