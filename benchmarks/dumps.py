"""What a dump of 100,000 workloads costs, how long it holds the loop up, what it needs in memory.

    python -m benchmarks.dumps [--workloads N] [--repeat N] [--only WAY]... [--quick]

A whole agent as users run it, asked over its socket by this process: what else runs in it belongs
to the stalls that its own watcher of the loop tells. Beside it the same objects are made from the
same compact store at once: all of that time is one stall, and all of it lies in memory.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks import _scale, dataset, harness
from benchmarks._goals import of_dumps
from benchmarks._stage import Failed, Stage, privately
from kmesh.core.model import Workload
from kmesh.core.views import upstream_service, upstream_workload
from kmesh.lab.interrupts import Interrupted, Interrupts
from kmesh.wire.discovery import Decoder, ResponseReader
from kmesh.wire.dump import dump
from kmesh.wire.held import HeldMesh
from kmesh.wire.mesh import Mesh
from kmesh.wire.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks._agent import Agent
    from kmesh.core.model import Resource

AT_ONCE = "all at once"
PIECE = 1 << 16
FOR_PEOPLE = {"Accept": "text/plain"}
DUAL, KERNEL = "/debug/config_dump/dual-engine", "/debug/config_dump/bpf/dual-engine"
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "upstream": (DUAL, {}),
    "upstream, a table": (DUAL, FOR_PEOPLE),
    "upstream, one namespace": (f"{DUAL}?namespace=payments-eu-007", {}),
    "upstream, changes": (f"{DUAL}?since=0", {}),
    "ztunnel": ("/config_dump", {}),
    "resources": ("/debug/resources", {}),
    "planned": ("/debug/planned", {}),
    "kernel": (KERNEL, {}),
    "kernel, a table": (KERNEL, FOR_PEOPLE),
    "differences": ("/diff", {}),
}


def held(workloads: int) -> Mapping[str, Resource]:
    """Resources as an agent keeps them after a response with all of them."""
    mesh = Mesh(Parts())
    store, reader = HeldMesh(mesh), ResponseReader(Decoder(mesh))
    raw = dataset.response(list(dataset.mesh(workloads, workloads // dataset.ENDPOINTS)), "n")
    for at in range(0, len(raw), PIECE):
        store.put(reader.feed(raw[at : at + PIECE]))
    reader.finish()
    return store.view


def whole(resources: Mapping[str, Resource]) -> int:
    """Every object, then all of them as JSON: bytes."""
    found: dict[str, list[dict[str, Any]]] = {"workloads": [], "services": []}
    for name in sorted(resources):
        resource = resources[name]
        is_workload = isinstance(resource.value, Workload)
        shape = (upstream_workload if is_workload else upstream_service)(dump(resource))
        found["workloads" if is_workload else "services"].append(shape)
    return len(orjson.dumps(found))


def at_once(workloads: int, repeat: int) -> dict[str, float]:
    """The same without an agent, in this process."""
    resources, runs = held(workloads), []
    gc.collect()
    gc.freeze()
    for _ in range(repeat):
        before, start = forget("self"), time.thread_time()
        size = whole(resources)
        cpu = time.thread_time() - start
        same = {"seconds": cpu, "cpu_s": cpu, "stall_ms": 1000 * cpu, "stall_cpu_ms": 1000 * cpu}
        runs.append({**same, "bytes": size, "memory": peak("self") - before})
    return middle(runs)


def forget(pid: int | str) -> int:
    """Let a process's most resident bytes be what it has now; that."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


def peak(pid: int | str) -> int:
    """Most resident bytes since ``forget``."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def ask(agent: Agent, path: str, headers: dict[str, str]) -> int:
    """Bytes of an answer. Raises Failed for another than 200."""
    agent.client.request("GET", path, headers=headers)
    answer, size = agent.client.getresponse(), 0
    if answer.status != 200:
        raise Failed(f"{path}: {answer.status} {answer.read().decode()}")
    while piece := answer.read(1 << 20):
        size += len(piece)
    agent.client.close()
    return size


def measure(agent: Agent, way: str, repeat: int) -> dict[str, float]:
    """Some runs of one way of asking."""
    runs = []
    for _ in range(repeat):
        numbers: dict[str, float] = {}
        before = forget(agent.process.pid)
        with _scale.watched(agent, numbers):
            start = time.monotonic()
            size = ask(agent, *WAYS[way])
            seconds = time.monotonic() - start
        memory = peak(agent.process.pid) - before
        runs.append({**numbers, "seconds": seconds, "bytes": size, "memory": memory})
    return middle(runs)


def middle(runs: list[dict[str, float]]) -> dict[str, float]:
    """Medians, but of the stalls the longest."""
    found = {name: harness.median([run[name] for run in runs]) for name in runs[0]}
    return found | {name: max(run[name] for run in runs) for name in ("stall_ms", "stall_cpu_ms")}


def everything(stage: Stage, workloads: int, repeat: int, ways: Iterable[str]) -> dict[str, Any]:
    """These ways of asking one agent."""
    put = _scale.large(workloads, workloads // dataset.ENDPOINTS)
    with _scale.world(stage, "dumps", put, {}) as one:
        found = {way: measure(one.agent, way, repeat) for way in ways}
    return {"workloads": workloads, "dumps": found, "at_once": at_once(workloads, repeat)}


def show(results: dict[str, Any]) -> None:
    """The table, and which goals were met."""
    base = results["at_once"]["cpu_s"]
    rows = [
        [way, f"{one['seconds']:.2f}", f"{one['cpu_s']:.2f}", f"{one['cpu_s'] / base:.2f}",
         f"{one['stall_ms']:.1f}", f"{one['stall_cpu_ms']:.1f}",
         f"{one['bytes'] / 1e6:.1f}", f"{one['memory'] / 1e6:+.1f}"]
        for way, one in [*results["dumps"].items(), (AT_ONCE, results["at_once"])]
    ]  # fmt: skip
    columns = ["dump", "s", "CPU s", "x at once", "longest stall ms", "own ms", "MB", "memory MB"]
    harness.show(f"dumps of an agent with {results['workloads']:,} workloads", columns, rows)
    goals = [[one.what, one.wanted, one.found, one.verdict] for one in of_dumps(results)]
    harness.show("goals", ["goal", "wanted", "found", "verdict"], goals)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(WAYS), help="may come more often")
    parser.add_argument("--quick", action="store_true", help="2,000 workloads, once")
    args = parser.parse_args()
    privately("benchmarks.dumps")
    count, repeat = (2000, 1) if args.quick else (args.workloads, args.repeat)
    interrupts = Interrupts()
    try:
        with interrupts.raised(), Stage(interrupts.held) as stage:
            results = everything(stage, count, repeat, args.only or WAYS)
    except Interrupted as signal:
        sys.exit(f"stopped by {signal}; everything was removed")
    show(results)
    print(harness.save("dumps", results))


if __name__ == "__main__":
    main()
