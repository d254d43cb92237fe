"""Tables of the results on a terminal."""

from __future__ import annotations

from typing import Any

from benchmarks import harness

COLUMNS = ("case", "way", "per s", "x direct", "middle half", "p50 us", "p90", "p99", "p999",
           "CPU us", "x direct", "proxy user", "system", "turns")  # fmt: skip


def show(results: dict[str, Any]) -> None:
    """One table a scenario, and what is missing."""
    for scenario in dict.fromkeys(row["scenario"] for row in results["rows"]):
        found = [line(row) for row in results["rows"] if row["scenario"] == scenario]
        harness.show(f"mesh: {scenario}", COLUMNS, found)
    if results["rows"]:
        others = max(row["others"] for row in results["rows"])
        print(f"others used up to {others:.2f} CPUs in the turns kept")
    if results["memory"]:
        held = [(row["way"], f"{row['workloads']:,}", f"{row['process_mib']:.1f}",
                 f"{row['maps_mib']:.1f}") for row in results["memory"]]  # fmt: skip
        columns = ("way", "workloads", "process MiB", "maps MiB")
        harness.show("mesh: memory, idle", columns, held)
    for name, why in results["missing"].items():
        print(f"not measured: {name}: {why}")


def line(row: dict[str, Any]) -> list[str]:
    """One row of numbers as text; what was not measured is empty."""
    ratio, cost = row["rate_ratio"], row["cpu_us_ratio"]
    times = [number(row.get(f"{name}_us")) for name in ("p50", "p90", "p99", "p999")]
    middle = f"{ratio['low']:.2f}-{ratio['high']:.2f}"
    cpu = [number(row["cpu_us"]), f"{cost['median']:.3f}"]
    cpu += [number(row.get("proxy_user_us")), number(row.get("proxy_system_us"))]
    head = [row["case"], row["way"], f"{row['rate']:,.0f}", f"{ratio['median']:.3f}", middle]
    return [*head, *times, *cpu, str(row["turns"])]


def number(value: float | None) -> str:
    """Three digits at least."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
