"""What authorization costs: per new connection, for open ones, per change, and whether a change is
ever wrong for a moment.

    python -m benchmarks.authz [--quick] [--results FOLDER]

The same client and server in one run: a pod without policies against the same pod with 1, 10,
1,000 and 10,000 rules of which the last one lets the client in. Everything lies in namespaces of
the benchmark's own, and ends with it.
"""

from __future__ import annotations

import argparse
import errno
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import _authz_live, _load, _mesh, harness
from benchmarks._contenders import CLIENT_CPU, PORT, SERVER_CPU, cookie
from benchmarks._stage import Place, Stage, privately, settle, used_us
from kmesh.bpf import lib, load
from kmesh.bpf.sizes import Sizes
from kmesh.bpf.tables import KernelTables
from kmesh.core import addr
from kmesh.core.commands import ROW
from kmesh.core.model import Action, Authorization, Match, PolicyScope
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from kmesh.lab.interrupts import Interrupted, Interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SERVER, CLIENT, STRANGER = "10.2.0.1", "10.2.0.2", "10.2.0.3"
RULES = (0, 1, 10, 1000, 10_000)


class Plan(NamedTuple):
    """How long and how often."""

    rounds: int
    slice_ms: int
    changes: int
    connections: int


FULL, QUICK = Plan(25, 300, 1000, 10_000), Plan(2, 60, 50, 500)


class Door:
    """A guarded pod with a server in it, and a client beside it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.servers = stage.cgroup("server")
        self.client_group = stage.cgroup("client")
        sizes = Sizes(rows=1 << 23)
        bpffs = stage.mount("bpf", "-t", "bpf", "bpf")
        cgroup2 = stage.mount("cgroup2", "--bind", str(stage.cgroup("pods")))
        self.plane = load.start(bpffs, cgroup2, sizes)
        self.tables = KernelTables(self.plane)
        self.netns, self.client = stage.namespace([SERVER]), stage.namespace([CLIENT, STRANGER])
        stage.route(self.client, [SERVER])
        stage.route(self.netns, [CLIENT, STRANGER])
        place = Place(self.netns, self.servers, SERVER_CPU)
        stage.start([stage.server, "echo", str(PORT)], place, wait=True)
        self.steer = Steering(
            Store("", "Kubernetes", "n0"), Segments(sizes.slots), sizes.vips,
            rows=Segments(sizes.rows, 0.5, ROW),
        )  # fmt: skip
        self._join()

    def _join(self) -> None:
        pods = [_mesh.workload(name, addr.parse(ip), []) for name, ip in
                (("server", SERVER), ("client", CLIENT))]  # fmt: skip
        self.steer.put(pods)
        mine = cookie(self.netns)
        self.tables.remember(mine, self.netns)
        self.steer.enrol(mine, pods[0][0])
        self.steer.start()
        self.steer.start_guarding()
        self.write()

    def policies(self, *policies: Authorization) -> float:
        """Replace all policies; seconds until they are in force."""
        known = dict.fromkeys(self.steer.guards.index.policies)
        start = time.perf_counter()
        self.steer.put_policies([*known.items(), *((each.key, each) for each in policies)])
        self.write()
        return time.perf_counter() - start

    def write(self) -> None:
        """Everything that is planned."""
        while (ops := self.steer.next_ops(time.monotonic())) or not self.steer.idle():
            outcome = self.tables.apply(ops)
            if outcome.error is not None:
                raise outcome.error
            self.steer.report(ops, outcome, time.monotonic())

    def load(self, mode: str, connections: int, ms: int) -> dict[str, float]:
        """A slice of load from the client: rate, latency and CPU per operation."""
        before = used_us(self.servers)
        place = Place(self.client, self.client_group, CLIENT_CPU)
        load = _load.Load(mode, connections, ms, f"{SERVER}:{PORT}")
        found = _load.run(self.stage, place, load)
        settle([self.servers])
        used = found.cpu_us + used_us(self.servers) - before
        p50 = _load.quantile_us(found.histogram, 0.5)
        return {"rate": found.rate, "p50_us": p50, "cpu_us": used / found.operations}


def rules(count: int, *, ports: bool = True) -> Authorization:
    """An ALLOW policy of so many rules; only the last one fits the client. With ``ports`` no two
    differ in one kind alone, so that each takes a bit; without they are one list of prefixes."""
    sources = [((0x0B_00_00_00 + 256 * i).to_bytes(4, "big"), 24) for i in range(count - 1)]
    sources.append((addr.parse(CLIENT)[12:], 32))
    matches = [
        Match(
            source_ips=(addr.network(addr.from_wire(raw), plen),),
            destination_ports=(PORT + count - 1 - index,) if ports else (),
        )
        for index, (raw, plen) in enumerate(sources)
    ]
    return Authorization(
        "bench/p", "bench", PolicyScope.NAMESPACE, Action.ALLOW,
        tuple(((match,),) for match in matches),
    )  # fmt: skip


def by_rules(door: Door, plan: Plan) -> list[dict[str, Any]]:
    """Cost by the number of rules: each round measures all of them in another order."""
    dice = random.Random(1)
    cells: dict[int, list[dict[str, float]]] = {count: [] for count in RULES}
    arrival: dict[int, list[float]] = {count: [] for count in RULES}
    for _ in range(plan.rounds):
        for count in dice.sample(RULES, len(RULES)):
            arrival[count].append(door.policies(*([rules(count)] if count else [])))
            ns, runs = lib.run_time(door.plane.programs["km_admit"])
            cell = door.load("connect", 1, plan.slice_ms)
            more_ns, more = lib.run_time(door.plane.programs["km_admit"])
            cell["program_ns"] = (more_ns - ns) / max(more - runs, 1)
            keep = door.load("keep", 1, plan.slice_ms)
            cells[count].append(cell | {f"keep_{name}": value for name, value in keep.items()})
    return [row(count, cells, arrival[count]) for count in RULES]


def row(
    count: int, cells: dict[int, list[dict[str, float]]], arrival: Sequence[float]
) -> dict[str, Any]:
    """Medians, and medians of each round's own ratio to the round without rules."""
    found: dict[str, Any] = {"rules": count}
    for name in cells[count][0]:
        found[name] = statistics.median(cell[name] for cell in cells[count])
        pairs = zip(cells[count], cells[0], strict=True)
        found[f"{name}_ratio"] = statistics.median(a[name] / b[name] for a, b in pairs)
    found["in_force_ms"] = 1000 * statistics.median(arrival)
    return found


class Hammer:
    """A process in the client's namespace that connects without a pause from one address."""

    def __init__(self, door: Door, source: str) -> None:
        command = [sys.executable, "-m", "benchmarks._hammer", source, SERVER, str(PORT)]
        place = Place(door.client, door.client_group, CLIENT_CPU)
        self._process = door.stage.start(command, place, wait=True)

    def stop(self) -> tuple[dict[int, int], float]:
        """(tries by errno, median microseconds of one)."""
        out, _ = self._process.communicate()
        found = json.loads(out)
        return {int(code): count for code, count in found["met"].items()}, found["p50_us"]


def flips(count: int) -> Iterator[tuple[Authorization, ...]]:
    """Policies that all let the client in and keep the stranger out, none like the one before."""
    inside = rules(1)
    outside = Match(source_ips=(addr.network(addr.parse(STRANGER), 32),))
    for index in range(count):
        port = Match(destination_ports=(20_000 + index % 1000,))
        deny = Authorization(
            "bench/d", "bench", PolicyScope.NAMESPACE, Action.DENY, (((port, outside),),)
        )
        yield (inside, deny) if index % 2 else (inside,)


def hammered(door: Door, plan: Plan) -> dict[str, Any]:
    """Change policies while two clients hammer: every verdict has to be the one right one."""
    door.policies(rules(1))
    friend, stranger = Hammer(door, CLIENT), Hammer(door, STRANGER)
    arrival = [door.policies(*each) for each in flips(plan.changes)]
    allowed, allowed_us = friend.stop()
    denied, denied_us = stranger.stop()
    right = allowed.get(0, 0), denied.get(errno.ECONNREFUSED, 0)
    ordered = sorted(arrival)
    return {
        "changes": plan.changes,
        "allowed": right[0],
        "denied": right[1],
        "wrong": sum(allowed.values()) + sum(denied.values()) - sum(right),
        "in_force_p50_ms": 1000 * ordered[len(ordered) // 2],
        "in_force_p99_ms": 1000 * ordered[len(ordered) * 99 // 100],
        "denied_p50_us": denied_us,
        "allowed_p50_us": allowed_us,
    }


def show(results: dict[str, Any]) -> None:
    """Tables to standard output."""
    columns = ["rules", "program ns", "connect us", "x none", "CPU us", "x none", "keep x none"]
    rows = [
        [f"{one['rules']:,}", f"{one['program_ns']:.0f}", f"{one['p50_us']:.1f}",
         f"{one['p50_us_ratio']:.3f}", f"{one['cpu_us']:.1f}", f"{one['cpu_us_ratio']:.3f}",
         f"{one['keep_rate_ratio']:.3f}"]
        for one in results["rules"]
    ]  # fmt: skip
    harness.show("authz: cost of a new connection, and rate of open ones", columns, rows)
    rows = [[f"{one['rules']:,}", f"{one['in_force_ms']:.1f}"] for one in results["rules"]]
    harness.show("authz: from the policy to its enforcement", ["rules", "ms"], rows)
    for part in ("listed", "hammered", "evicted", "streamed"):
        found = results[part].items()
        print(f"{part}:", ", ".join(f"{name} {value:,.6g}" for name, value in found))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds, numbers of no worth")
    parser.add_argument("--results", type=Path, help="folder of authz.json")
    args = parser.parse_args()
    privately("benchmarks.authz")
    if args.results:
        harness.RESULTS = args.results
    interrupts, plan = Interrupts(), QUICK if args.quick else FULL
    try:
        with interrupts.raised(), Stage(interrupts.held) as stage:
            stage.start([stage.client, "stats", str(stage.cgroup("stats"))], Place(), wait=True)
            door = Door(stage)
            results = {"plan": plan._asdict(), "rules": by_rules(door, plan)}
            listed = [door.policies(rules(RULES[-1], ports=False)) for _ in range(plan.rounds)]
            results["listed"] = {
                "prefixes": RULES[-1], "in_force_ms": 1000 * statistics.median(listed),
            }  # fmt: skip
            results["hammered"] = hammered(door, plan)
            results["evicted"] = _authz_live.evicted(door, plan.connections)
            door.plane.close()
            results["streamed"] = _authz_live.streamed(stage, plan.changes)
    except Interrupted as signal:
        sys.exit(f"stopped by {signal}; everything was removed")
    show(results)
    print(harness.save("authz", results))


if __name__ == "__main__":
    main()
