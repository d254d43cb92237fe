"""Results as Markdown, and the places of a file where they belong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks import _goals
from benchmarks._sure import MISSED
from benchmarks.mesh.report import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Json = dict[str, Any]


class NoPlace(ValueError):
    """The file has no markers of that name."""


def fill(text: str, name: str, content: str) -> str:
    """Put content between ``<!-- name -->`` and ``<!-- /name -->``. Raises NoPlace."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise NoPlace(f"{begin} and {end} have to be there once each, in this order")
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    whole = f"{begin}\n{content.strip()}\n{end}"
    return re.sub(pattern, lambda _: whole, text, flags=re.DOTALL)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; numbers to the right."""
    head = "| " + " | ".join(columns) + " |"
    rule = "| --- |" + " ---: |" * (len(columns) - 1)
    body = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([head, rule, *body])


def machine(found: Json) -> str:
    """Where the numbers come from, one line."""
    return (
        f"{found['cpus']} x {found['cpu']}, Linux {found['kernel']}, Python {found['python']}, "
        f"taken {found['taken']}."
    )


def goals(found: Iterable[_goals.Goal]) -> str:
    """A table of goals; what is missed is to be seen."""
    rows = [(*one[:-1], one.verdict.replace(MISSED, f"**{MISSED}**")) for one in found]
    return table(("goal", "wanted", "found", ""), rows)


def mesh(saved: Json) -> str:
    """All tables of a run of mesh."""
    results = saved["results"]
    parts = [machine(saved["machine"]), goals(_goals.of_mesh(results))]
    facts = [
        (name, one["version"], one["balances"], one["redirection"], one["encryption"],
         one["identity"], f"{100 * one['idle']:.2f}", one["besides"])
        for name, one in results["contenders"].items()
    ]  # fmt: skip
    head = ("contender", "version", "balances", "redirection", "encryption", "identity",
            "idle, % of a CPU", "besides, not in the numbers")  # fmt: skip
    parts.append(table(head, facts))
    columns = ("case", "contender", "per s", "x direct", "p50 us", "p90", "p99", "p999",
               "CPU us", "x direct", "of which proxy or agent", "of all in the kernel",
               "idle us, not in them", "slices")  # fmt: skip
    for scenario in dict.fromkeys(row["scenario"] for row in results["rows"]):
        rows = [_way(row) for row in results["rows"] if row["scenario"] == scenario]
        parts.append(f"**{scenario}**\n\n{table(columns, rows)}")
    if results["memory"]:
        parts.append(f"**memory**\n\n{memory(results['memory'])}")
    parts.append(_circumstances(results))
    for name, why in results["missing"].items():
        parts.append(f"Not measured: {name}: {why}")
    return "\n\n".join(parts)


def _circumstances(results: Json) -> str:
    """What else ran, and whose load it was."""
    slices, bursts = (max((row["others"] for row in results[part]), default=0.0)
                      for part in ("rows", "bursts"))  # fmt: skip
    found = f"Others used up to {slices:.2f} CPUs in the slices kept, {bursts:.2f} in the bursts."
    tools = ", ".join(f"{name} {version}" for name, version in results["tools"].items())
    return f"{found} Load of other programs: {tools}." if tools else found


def authz(saved: Json) -> str:
    """All tables of a run of authz."""
    results = saved["results"]
    columns = ("rules", "program ns", "connect p50 us", "x none", "CPU us", "x none",
               "requests on open ones, x none", "policy to kernel ms")  # fmt: skip
    rows = [
        (f"{one['rules']:,}", f"{one['program_ns']:,.0f}", f"{one['p50_us']:.1f}",
         f"{one['p50_us_ratio']:.2f}", f"{one['cpu_us']:.1f}", f"{one['cpu_us_ratio']:.2f}",
         f"{one['keep_rate_ratio']:.2f}", f"{one['in_force_ms']:,.1f}")
        for one in results["rules"]
    ]  # fmt: skip
    met, late, listed = results["hammered"], results["streamed"], results["listed"]
    return "\n\n".join([
        machine(saved["machine"]), goals(_goals.of_authz(results)), table(columns, rows),
        f"While {met['changes']:,} changes were made, {met['allowed']:,} connections were let in "
        f"({met['allowed_p50_us']:.0f} us each) and {met['denied']:,} refused "
        f"({met['denied_p50_us']:.0f} us until ECONNREFUSED). A policy of {listed['prefixes']:,} "
        f"prefixes was in force after {listed['in_force_ms']:,.0f} ms, one on the stream after "
        f"{late['p50']:.1f} / {late['p99']:.1f} / {late['max']:.1f} ms (p50, p99, longest).",
    ])  # fmt: skip


def memory(rows: Sequence[Json]) -> str:
    """Memory of contenders by the size of the mesh."""
    columns = ("contender", "workloads", "process MiB", "kernel MiB")
    return table(columns, [
        (row["way"], f"{row['workloads']:,}", number(row["process_mib"]),
         number(row["kernel_mib"]) if row["kernel_mib"] else "")
        for row in rows
    ])  # fmt: skip


def _way(row: Json) -> tuple[str, ...]:
    ratio, cost = row["rate_ratio"], row["cpu_us_ratio"]
    times = [number(row.get(f"{name}_us")) for name in ("p50", "p90", "p99", "p999")]
    x = f"{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"
    parts = [number(row[name]) for name in ("proxy_us", "system_us", "idle_us")]
    cpu = (number(row["cpu_us"]), f"{cost['median']:.2f}", *parts)
    return (row["case"], row["way"], f"{row['rate']:,.0f}", x, *times, *cpu, str(row["turns"]))


def scale(saved: Json) -> str:
    """All tables of a run of scale."""
    results = saved["results"]
    parts = [machine(saved["machine"]), goals(_goals.of_scale(results))]
    for name, curve in results["curves"].items():
        parts.append(f"**{name}**, cold start\n\n{_points(curve)}")
        parts.append(_growth(curve))
        if "events" in curve:
            parts.append(f"What happens to the largest\n\n{_events(curve['events'])}")
    for name, why in results["failed"].items():
        parts.append(f"Failed: {name}: {why}")
    return "\n\n".join(parts)


def _points(curve: Json) -> str:
    columns = ["size", "CPU s", "us each", "acked s", "longest stall ms", "own computing",
               "peak RSS MiB", "maps MiB"]  # fmt: skip
    extra = "enrolled" in curve["points"][0]
    rows = []
    for one in curve["points"]:
        cold = one["cold"]
        row = [f"{one['size']:,}", f"{cold['cpu_s']:.2f}",
               f"{1e6 * cold['cpu_s'] / one['resources']:,.0f}", f"{cold['acked_s']:.2f}",
               *(f"{cold[name]:.1f}" for name in
                 ("stall_ms", "stall_cpu_ms", "peak_rss_mib", "map_mib"))]  # fmt: skip
        if extra:
            found = one["enrolled"]
            row += [f"{found['cpu_s']:.2f}", f"{found['stall_cpu_ms']:.1f}"]
        rows.append(row)
    return table([*columns, *(["enrolled: CPU s", "own computing ms"] if extra else [])], rows)


def _growth(curve: Json) -> str:
    names = {"cpu_s": "CPU", "map_mib": "kernel memory", "enrolled_cpu_s": "CPU of the enrolment"}
    parts = []
    for field, one in curve["fit"].items():
        steps = ", ".join(f"{step:.2f}" for step in one["steps"])
        parts.append(f"{names[field]} grows with exponent {one['exponent']:.2f} ({steps})")
    return "; ".join(parts) + "."


def _events(events: Json) -> str:
    columns = ("what", "resources", "CPU s", "acked p50 / p99 / longest ms",
               "visible p50 / p99 / longest ms", "longest stall ms", "own computing")  # fmt: skip
    rows = []
    for name, one in events.items():
        spreads = []
        for part in ("acked_ms", "visible_ms"):
            found = one.get(part, {})
            spreads.append(" / ".join(f"{found[q]:.1f}" for q in ("p50", "p99", "max")
                                      if q in found))  # fmt: skip
        count = one.get("resources", one.get("changed"))
        stalls = (f"{one['stall_ms']:.1f}", f"{one['stall_cpu_ms']:.1f}")
        rows.append((name, f"{count:,}", f"{one['cpu_s']:.2f}", *spreads, *stalls))
    return table(columns, rows)
