"""From an open stream to complete maps, then steady churn: 100,000 workloads, 5,000 services.

Three processes: a gRPC server with the encoded mesh, the agent as users run it (``kmesh daemon``,
real maps in a private bpffs), and google-protobuf's C parser over the same bytes as the yardstick.
The agent's numbers are its own (GET /state) and the kernel's (CPU time, peak RSS).

``python -m benchmarks.converge [--workloads N] [--services N] [--seconds S] [--rate R]``
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import _agent, dataset, harness
from benchmarks._server import Server
from benchmarks._stage import Stage, privately
from kmesh.lab.interrupts import Interrupted, Interrupts

if TYPE_CHECKING:
    from pathlib import Path


def measure(options: argparse.Namespace, stage: Stage) -> dict[str, Any]:
    """One cold start and one churn."""
    server = Server(stage)
    server.call("mesh", workloads=options.workloads, services=options.services)
    with _agent.running(stage, server.address) as agent:
        answered = server.call("acked")["ms"]  # questions meanwhile would be part of the answer
        agent.wait(_agent.synced(options.workloads, options.services))
        cold = agent.client.state()
        sent = server.call(
            "churn", workloads=options.workloads, seconds=options.seconds, rate=options.rate
        )
        churn_loop = agent.client.state()["loop"]
        agent.wait(lambda state: bool(state["synced"]))
        after = agent.client.state()
    return {
        "cold": cold,
        "cold_acked_seconds": max(answered, default=0.0) / 1000,
        "sent": sent,
        "churn_loop": churn_loop,
        "after": after,
    }


def yardstick(options: argparse.Namespace, folder: Path) -> float:
    """CPU seconds of google-protobuf's C parser for the same bytes in one response."""
    entries = list(dataset.mesh(options.workloads, options.services))
    files = []
    for index, raw in enumerate(dataset.responses(entries, len(entries))):
        path = folder / f"response-{index}"
        path.write_bytes(raw)
        files.append(path)
    command = [sys.executable, "-m", "benchmarks.decode", "--case", "upb, each"]
    command += ["--folder", str(folder), *map(str, files)]
    asked = subprocess.run(command, input="go\n" * 4, capture_output=True, text=True, check=True)
    return harness.median([json.loads(line)["cpu_s"] for line in asked.stdout.splitlines()])


def report(options: argparse.Namespace, found: dict[str, Any], upb: float) -> dict[str, Any]:
    """The table, and what goes into the JSON file."""
    cold, after = found["cold"], found["after"]
    start, spent = cold["process"]["start_cpu_seconds"], cold["process"]["cpu_seconds"]
    visible = after["writer"]["visible_ms"]
    numbers = {
        "workloads": options.workloads,
        "services": options.services,
        "upb_cpu_s": upb,
        "start_cpu_s": start,
        "cold_cpu_s": spent - start,
        "cold_cpu_ratio": (spent - start) / upb,
        "total_cpu_ratio": spent / upb,
        "cold_acked_s": found["cold_acked_seconds"],
        "cold_peak_rss_mib": cold["process"]["peak_rss_kib"] / 1024,
        "cold_longest_stall_ms": cold["loop"]["longest"] * 1000,
        "cold_longest_stall_cpu_ms": cold["loop"]["longest_cpu"] * 1000,
        "records": cold["planner"]["records"],
        "slots": cold["planner"]["segments"]["used"],
        "changes": found["sent"],
        "changes_per_s": found["sent"] / options.seconds,
        "churn_cpu_share": (after["process"]["cpu_seconds"] - spent) / options.seconds,
        "visible_p50_ms": visible.get("p50"),
        "visible_p99_ms": visible.get("p99"),
        "visible_max_ms": visible.get("max"),
        "churn_longest_stall_ms": found["churn_loop"]["recent"] * 1000,
        "churn_longest_stall_cpu_ms": found["churn_loop"]["recent_cpu"] * 1000,
        "peak_rss_mib": after["process"]["peak_rss_kib"] / 1024,
    }
    goals = {
        "cold_cpu_ratio": "<= 4", "cold_peak_rss_mib": "<= 150",
        "cold_longest_stall_cpu_ms": "<= 10", "visible_p99_ms": "<= 20",
        "churn_longest_stall_cpu_ms": "<= 10",
    }  # fmt: skip
    rows = [(name, f"{value:,.2f}", goals.get(name, "")) for name, value in numbers.items()]
    harness.show("converge", ("measure", "value", "goal"), rows)
    return numbers


def main() -> None:
    """Run once (it takes about a minute) and write benchmarks/results/converge.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=int, default=100_000)
    parser.add_argument("--services", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=1000)
    options = parser.parse_args()
    privately("benchmarks.converge")
    interrupts = Interrupts()
    try:
        with interrupts.raised(), Stage(interrupts.held) as stage:
            upb = yardstick(options, stage.folder)
            found = measure(options, stage)
    except Interrupted as signal:
        sys.exit(f"stopped by {signal}; everything was removed")
    harness.save("converge", report(options, found, upb))


if __name__ == "__main__":
    main()
