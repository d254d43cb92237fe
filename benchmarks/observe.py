"""What does it cost to watch connections, and what does the agent make of the records?

A whole agent on a stage; client and servers are enrolled, so both ends of every connection are
counted and logged, on one machine. Its switches are thrown while a load goes on, and each short
slice is compared with the two beside it, which are off:

  off          neither counted nor logged; the programs are there and see that they are not wanted
  off 2        the same again, between the same two: off against off 2 is the noise
  metrics      counted
  access log   counted and logged: text to a file in memory, a line for each end of each connection

  short        connect, send 64 bytes, receive 64 bytes, close
  keep         64 bytes there and back on connections that stay

Then: what 10,000 open connections cost that carry nothing; how many records a second the agent
reads without a loss, counted and with a line each, when a program of ours writes them from one CPU;
what it costs when nothing happens at all.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anyio.from_thread import start_blocking_portal

from benchmarks import _agent, _contenders, harness
from benchmarks._between import Going, alternate, compared, row, strangers
from benchmarks._contenders import CLIENT_CPU, PORT, SERVERS, VIP, VIP_PORT
from benchmarks._flood import Flood
from benchmarks._load import Load, together
from benchmarks._stage import Failed, Place, Stage, privately, used_us
from benchmarks._watching import show
from kmesh.controlplane.file import parse
from kmesh.controlplane.server import ControlPlane, Listen
from kmesh.lab.interrupts import Interrupted, Interrupts

if TYPE_CHECKING:
    from benchmarks._agent import Agent

OFF, AGAIN, METRICS, LOGGED = "off", "off 2", "metrics", "access log"
WAYS = {
    OFF: {"metrics": False, "access_log": False, "avoid": 0.0},
    METRICS: {"metrics": True, "access_log": False, "avoid": 0.0},
    LOGGED: {"metrics": True, "access_log": True, "avoid": 0.0},
    AGAIN: {"metrics": False, "access_log": False, "avoid": 0.0},
}
# Most slices are of the way that is closest to its goal.
CYCLE = (OFF, METRICS, AGAIN, METRICS, OFF, METRICS, AGAIN, LOGGED)
REACH = {OFF: 2, METRICS: 1, LOGGED: 1, AGAIN: 2}  # how far from a slice those are that are off
LOADS = tuple((mode, count) for mode in ("short", "keep") for count in (1, 100))
CLIENT = "10.1.1.1"
TARGET = f"{VIP}:{VIP_PORT}"
RING = 4 << 20


class Plan(NamedTuple):
    """How much is measured; seconds are those of one measurement, ``report_s`` lies between two
    sweeps of open connections. ``cycles`` through all switches, by mode."""

    cycles: dict[str, int]
    slice_s: float
    programs_ms: int
    held: int
    idle_s: float
    pods: int
    rates: tuple[int, ...]
    flood_s: float
    report_s: float


FULL = Plan(
    {"short": 180, "keep": 30}, 0.06, 1500, 10_000, 20.0, 100, (50_000, 100_000, 200_000), 6.0, 5.0
)
QUICK = Plan({"short": 3, "keep": 2}, 0.05, 300, 500, 2.0, 5, (20_000, 100_000), 0.5, 1.0)


class Bench(NamedTuple):
    """What everything is measured on."""

    stage: Stage
    agent: Agent
    client: Place
    servers: Path

    def spent(self, seconds: float) -> float:
        """Cores that the agent uses while nothing else is done."""
        start, before = time.monotonic(), used_us(self.agent.cgroup)
        time.sleep(seconds)
        return (used_us(self.agent.cgroup) - before) / 1e6 / (time.monotonic() - start)

    def run_time(self) -> dict[str, float]:
        """Seconds in each program so far, as far as they were measured."""
        where = self.agent.client.state()["observability"]["metrics"]["listening"]
        with urllib.request.urlopen(f"http://{where}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        found = (re.fullmatch(r'kmesh_program_run_seconds_total{program="(\w+)"} (.*)', one)
                 for one in lines)  # fmt: skip
        return {one[1]: float(one[2]) for one in found if one}

    def switch(self, way: str) -> None:
        """Throw the switches."""
        self.agent.client.switch(**WAYS[way])


def pod(name: str, address: str, service: str = "") -> dict[str, Any]:
    """A workload of the mesh file."""
    row = {"name": name, "namespace": "bench", "workloadIps": [address], "network": _agent.NETWORK}
    ports = {VIP_PORT: PORT}
    return {**row, "services": {service: ports} if service else {}}


def mesh() -> bytes:
    """A service with three pods, and a client."""
    web = "web.bench.svc.cluster.local"
    pods = [pod(f"web-{i}", one, f"bench/{web}") for i, one in enumerate(SERVERS)]
    service = {
        "name": "web", "namespace": "bench", "hostname": web, "vips": [f"{_agent.NETWORK}/{VIP}"],
        "ports": {VIP_PORT: PORT},
    }  # fmt: skip
    return repr({"workloads": [*pods, pod("client", CLIENT)], "services": [service]}).encode()


def prepared(stage: Stage, address: str, report_s: float) -> Bench:
    """Agent, servers and client, all of them known to it."""
    logs = stage.mount("logs", "-t", "tmpfs", "-o", "size=256m", "tmpfs")
    agent = _agent.start(
        stage, address, "agent", "--ring-size", str(RING), "--report-interval", str(report_s),
        "--access-log-stdout", "false", "--access-log-file", f"{logs}/access.log",
        "--metrics-address", "127.0.0.1:0",
        "--access-log-file-size", "64MiB", "--access-log-files", "1",
        "--audit-interval", "never",  # it would fall into one of two windows that are compared
    )  # fmt: skip
    clients = stage.cgroup("agent-pods/client")
    served = _contenders.servers(stage, "agent-pods/servers")
    netns = _contenders.client_namespace(stage, served, CLIENT)
    agent.wait(lambda state: bool(state["synced"]))
    for name, one in (*((f"web-{i}", one) for i, one in enumerate(served)), ("client", netns)):
        agent.client.enrol(one, f"Kubernetes//Pod/bench/{name}")
    agent.wait(lambda state: state["planner"]["pods"] == len(served) + 1)
    return Bench(stage, agent, Place(netns, clients, CLIENT_CPU), agent.pods / "servers")


def load(bench: Bench, plan: Plan) -> list[dict[str, Any]]:
    """Everything switched on and off in turn."""
    found = []
    groups = (bench.stage.cgroups / "agent-pods/client", bench.servers, bench.agent.cgroup)
    for mode, count in LOADS:
        wanted = Load(mode, count, 300_000, TARGET)
        with closing(Going(bench.stage, bench.client, wanted, groups)) as going:
            going.begin()
            slices = alternate(going, CYCLE, bench.switch, plan.cycles[mode], plan.slice_s)
        for way, reach in REACH.items():
            some = compared(slices, way, reach)
            found.append({"mode": mode, "connections": count, "way": way, **row(some)})
    return found


def programs(bench: Bench, plan: Plan) -> dict[str, dict[str, float]]:
    """Nanoseconds of our programs for a short connection, both ends, by the kernel's own count."""
    found = {}
    bench.agent.client.switch(profiling=True)
    try:
        for way in (OFF, METRICS, LOGGED):
            bench.switch(way)
            before = bench.run_time()
            short = Load("short", 1, plan.programs_ms, TARGET)
            (one,) = together(bench.stage, [(bench.client, short)])
            count = one.operations
            found[way] = {
                program: 1e9 * (spent - before[program]) / count
                for program, spent in bench.run_time().items()
                if spent > before[program]
            }
    finally:
        bench.agent.client.switch(profiling=False)
    return found


def held(bench: Bench, plan: Plan) -> dict[str, Any]:
    """Open connections that carry nothing, watched at both ends."""
    bench.switch(METRICS)
    time.sleep(plan.report_s)
    before = bench.spent(plan.idle_s)
    command = [sys.executable, "-m", "benchmarks._hold", CLIENT, SERVERS[0], str(PORT)]
    holder = bench.stage.start([*command, str(plan.held)], bench.client, wait=True)
    time.sleep(plan.report_s)  # the sweep that finds them new
    open_ = bench.spent(plan.idle_s)
    left = json.loads(holder.communicate("\n")[0])
    if left["held"] != plan.held or left["reset"]:
        raise Failed(f"connections did not stay open: {left}")
    time.sleep(plan.report_s)
    without = (before + bench.spent(plan.idle_s)) / 2
    return {
        "connections": plan.held, "sockets": 2 * plan.held, "interval_s": plan.report_s,
        "without_cores": without, "with_cores": open_, "cores": open_ - without,
    }  # fmt: skip


def records(bench: Bench, flood: Flood, way: str, rate: int, seconds: float) -> dict[str, Any]:
    """Records at a rate, and what the agent needed for each until the last was read."""
    bench.switch(way)
    before, used = bench.agent.client.state(), used_us(bench.agent.cgroup)
    found = flood.run(rate, seconds)
    count = found["made"]
    bench.agent.wait(lambda state: read_of(state) - read_of(before) >= count, 30)
    bench.agent.wait(lambda state: not log_of(state)["waiting"], 30)
    after, used = bench.agent.client.state(), used_us(bench.agent.cgroup) - used
    log, old = log_of(after), log_of(before)
    return {
        "way": way, "asked_per_s": rate, "made_per_s": count / found["seconds"], "records": count,
        "read": after["ring"]["records"] - before["ring"]["records"],
        "lost": after["ring"]["lost"] - before["ring"]["lost"],
        "lines": log["written"] - old["written"],
        "lines_dropped": log["dropped"] - old["dropped"],
        "ring_bytes": RING, "agent_us": used / count,
    }  # fmt: skip


def read_of(state: dict[str, Any]) -> int:
    """Records that were read or lost so far."""
    ring: dict[str, int] = state["ring"]
    return ring["records"] + ring["lost"]


def log_of(state: dict[str, Any]) -> dict[str, int]:
    """Numbers of the access log."""
    found: dict[str, int] = state["observability"]["access_log"]
    return found


def drained(bench: Bench, plan: Plan) -> list[dict[str, Any]]:
    """All rates, with and without lines."""
    flood = Flood(bench.stage, bench.stage.folder / "agent-bpf", [CLIENT, SERVERS[0]])
    return [
        records(bench, flood, way, rate, plan.flood_s)
        for way in (METRICS, LOGGED)
        for rate in plan.rates
    ]


def idle(bench: Bench, plan: Plan) -> dict[str, Any]:
    """Cores of an agent to which nothing happens, and of one with many pods."""
    bench.switch(METRICS)
    time.sleep(1)
    found = {"few_pods_cores": bench.spent(plan.idle_s)}
    for _ in range(plan.pods):
        bench.agent.client.enrol(bench.stage.namespace(), "Kubernetes//Pod/bench/client")
    known = plan.pods + len(SERVERS) + 1
    bench.agent.wait(lambda state: state["planner"]["pods"] == known)
    time.sleep(plan.report_s + 1)  # the first look at each of them
    return {
        **found,
        "few_pods": len(SERVERS) + 1,
        "pods": known,
        "many_pods_cores": bench.spent(plan.idle_s),
    }


def everything(stage: Stage, plan: Plan) -> dict[str, Any]:
    """The whole benchmark on a stage."""
    with start_blocking_portal(backend_options={"use_uvloop": True}) as portal:
        plane = ControlPlane(listen=Listen.parse("127.0.0.1:0"))
        with portal.wrap_async_context_manager(plane.serving()) as address:
            portal.call(plane.apply, parse(mesh(), "mesh"))
            bench = prepared(stage, address, plan.report_s)
            return {
                "plan": plan._asdict(),
                "strangers": strangers(stage),
                "load": load(bench, plan),
                "programs_ns": programs(bench, plan),
                "held": held(bench, plan),
                "records": drained(bench, plan),
                "idle": idle(bench, plan),
            }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds, numbers of no worth")
    parser.add_argument("--results", type=Path, help="folder of observe.json")
    args = parser.parse_args()
    privately("benchmarks.observe")
    if args.results:
        harness.RESULTS = args.results
    interrupts = Interrupts()
    try:
        with interrupts.raised(), Stage(interrupts.held) as stage:
            results = everything(stage, QUICK if args.quick else FULL)
    except Interrupted as signal:
        sys.exit(f"stopped by {signal}; everything was removed")
    show(results, OFF)
    print(harness.save("observe", results))


if __name__ == "__main__":
    main()
