"""Tables of the results on a terminal."""

from __future__ import annotations

from typing import Any

from benchmarks import harness
from benchmarks._goals import of_mesh

COLUMNS = ("case", "way", "per s", "x direct", "19 of 20", "p50 us", "p90", "p99", "p999",
           "CPU us", "x direct", "proxy", "kernel", "idle", "slices")  # fmt: skip


def show(results: dict[str, Any]) -> None:
    """One table a scenario, the goals, and what is missing."""
    for scenario in dict.fromkeys(row["scenario"] for row in results["rows"]):
        found = [line(row) for row in results["rows"] if row["scenario"] == scenario]
        harness.show(f"mesh: {scenario}", COLUMNS, found)
    if results["rows"]:
        others = max(row["others"] for row in results["rows"])
        print(f"others used up to {others:.2f} CPUs in the slices kept")
        harness.show("mesh: goals", ("goal", "wanted", "found", ""), of_mesh(results))
    if results["memory"]:
        held = [(row["way"], f"{row['workloads']:,}", f"{row['process_mib']:.1f}",
                 f"{row['kernel_mib']:.1f}") for row in results["memory"]]  # fmt: skip
        columns = ("way", "workloads", "process MiB", "kernel MiB")
        harness.show("mesh: memory, idle", columns, held)
    for name, why in results["missing"].items():
        print(f"not measured: {name}: {why}")


def line(row: dict[str, Any]) -> list[str]:
    """One row of numbers as text; what was not measured is empty."""
    ratio, cost = row["rate_ratio"], row["cpu_us_ratio"]
    times = [number(row.get(f"{name}_us")) for name in ("p50", "p90", "p99", "p999")]
    bounds = f"{ratio['low']:.3f}-{ratio['high']:.3f}"
    cpu = [number(row["cpu_us"]), f"{cost['median']:.3f}"]
    cpu += [number(row[name]) for name in ("proxy_us", "system_us", "idle_us")]
    head = [row["case"], row["way"], f"{row['rate']:,.0f}", f"{ratio['median']:.3f}", bounds]
    return [*head, *times, *cpu, str(row["turns"])]


def number(value: float | None) -> str:
    """Three digits at least."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
