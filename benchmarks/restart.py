"""What do restarts of the agent cost the applications, and how long does it take to adopt?

A client dials without a pause (connect, read who answers, close) while the agent is left alone,
ended and started again and again, killed, or replaced by another build. All take turns in rounds;
each rate is compared with that of the calm turn of its round, and "calm 2" shows the noise. The
client has a CPU to itself as far as the machine allows. Then an agent with a large mesh is killed
and started again: the time until it answers, and until everything is compared and in sync.

``python -m benchmarks.restart [--quick] [--rounds N] [--seconds S] [--workloads N] [--services N]
[--other FOLDER] [--results FOLDER]``
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import _soak_site as site
from benchmarks import harness
from benchmarks._agent import NETWORK, NODE
from benchmarks._server import Server
from benchmarks._soak_agent import Agent
from benchmarks._stage import Stage, privately
from benchmarks.soak import OWN, Stand, collect
from kmesh.lab.interrupts import Interrupted, Interrupts

CALM, AGAIN = "calm", "calm 2"
WAYS = (CALM, "ended", "killed", "replaced", AGAIN)
CLIENT_CPU = 0


def turn(stage: Stage, stand: Stand, way: str, seconds: float) -> dict[str, Any]:
    """One client's turn while the agent comes and goes in one way."""
    pairs = site.pairs()[site.FRIEND][:1]
    dialler = stand.dialler(site.FRIEND, seconds, pairs, CLIENT_CPU)
    restarts = 0
    while dialler.poll() is None and way not in (CALM, AGAIN):
        stand.agent.restart(way)
        restarts += 1
    dialler.wait()
    (met,) = collect(stage, [dialler])
    return {**met, "restarts": restarts}


def connects(stage: Stage, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each way."""
    stand = Stand(stage, options)
    turns: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            turns[way].append(turn(stage, stand, way, options.seconds))
    rows = []
    for way, found in turns.items():
        ratios = [a["made"] / b["made"] for a, b in zip(found, turns[CALM], strict=True)]
        rows.append({
            "way": way,
            "restarts": sum(each["restarts"] for each in found),
            "connections": sum(each["made"] for each in found),
            "per_s": statistics.median(each["made"] for each in found) / options.seconds,
            "ratio_to_calm": statistics.median(ratios),
            "longest_gap_ms": max(each["longest_gap_us"] for each in found) / 1000,
            "failed": sum(each["failed"] for each in found),
            "misrouted": sum(each["misrouted"] for each in found),
        })  # fmt: skip
    return rows


def adopt(stage: Stage, options: argparse.Namespace) -> dict[str, Any]:
    """A cold start with a large mesh, then what a new agent needs to take it over."""
    server = Server(stage)
    server.call("mesh", workloads=options.workloads, services=options.services)
    more = ("--network", NETWORK, "--node-name", NODE, "--audit-interval", "never")
    pods = stage.cgroup("large-pods")
    agent = Agent(stage, server.address, pods, [OWN], options.seed, *more, name="large")
    cold = agent.wait_synced(options.workloads)
    state = agent.restart("killed", options.workloads)
    return {
        "workloads": options.workloads,
        "services": options.services,
        "cold_cpu_s": cold["process"]["cpu_seconds"],
        "answers_after_s": agent.answer_seconds[-1],
        "in_sync_after_s": agent.adopt_seconds[-1],
        "start_cpu_s": state["process"]["start_cpu_seconds"],
        "cpu_s": state["process"]["cpu_seconds"],
        "records": state["planner"]["records"],
        "writes": state["writer"]["ops"],
        "longest_stall_cpu_ms": 1000 * state["loop"]["longest_cpu"],
    }


def report(rows: list[dict[str, Any]], large: dict[str, Any]) -> None:
    """Two tables."""
    columns = tuple(rows[0])
    cells = [
        [f"{value:,.2f}" if isinstance(value, float) else value for value in row.values()]
        for row in rows
    ]
    harness.show("connects through restarts", columns, cells)
    harness.show("adopting", ("measure", "value"), [
        (name, f"{value:,.2f}" if isinstance(value, float) else f"{value:,}")
        for name, value in large.items()
    ])  # fmt: skip


def main() -> None:
    """Run, and write restart.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small run that proves it works")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--workloads", type=int)
    parser.add_argument("--services", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--other", default="", metavar="FOLDER")
    parser.add_argument("--results", type=Path, help="folder of restart.json")
    options = parser.parse_args()
    if options.results:
        harness.RESULTS = options.results
    defaults = (1, 1.0, 2000, 100) if options.quick else (5, 10.0, 100_000, 5_000)
    names = ("rounds", "seconds", "workloads", "services")
    for name, value in zip(names, defaults, strict=True):
        setattr(options, name, getattr(options, name) or value)
    if options.quick and not options.other:
        options.other = OWN  # to make another takes half a minute
    privately("benchmarks.restart")
    interrupts = Interrupts()
    try:
        with interrupts.raised(), Stage(interrupts.held) as stage:
            rows, large = connects(stage, options), adopt(stage, options)
    except Interrupted as signal:
        sys.exit(f"stopped by {signal}; everything was removed")
    report(rows, large)
    harness.save("restart", {"connects": rows, "adopt": large})


if __name__ == "__main__":
    main()
