"""What does it cost to bring a change into the kernel's tables?

``segment``: endpoint slots through the mapped array, as kmesh writes them, against one
bpf_map_update_batch of the same slots: the bare system call with everything packed beforehand, and
with the packing that Python would have to do. ``flip``: one record. ``change``: one endpoint of a
service gets another address, from the decoded row to the kernel. ``cold``: a whole mesh into empty
tables. ``restart``: the same mesh over the tables it left. ``grow``: more room under the running
programs. All numbers are CPU of this thread, system calls included; medians.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import _mesh, harness
from benchmarks._stage import Stage, privately
from benchmarks._tables import Plan, World, change, cold, fill, flip, grow, segment
from kmesh.bpf.sizes import Sizes
from kmesh.bpf.tables import KernelTables
from kmesh.lab.interrupts import Interrupted, Interrupts

SEGMENTS = (10, 50, 1000, 10_000)
FULL = Plan(15, 5000, 20, 300, 5)
QUICK = Plan(3, 100, 20, 10, 2)


def everything(world: World, plan: Plan) -> dict[str, Any]:
    """All measurements."""
    plane = world.plane(1 << 15, 1 << 18)
    tables = KernelTables(plane)
    results: dict[str, Any] = {"plan": plan._asdict()}
    results["segment"] = {str(n): segment(plane, n, plan.repeat) for n in SEGMENTS}
    results["flip"] = flip(plane, tables, plan.repeat)
    world.clear(plane)
    results["change"] = {}
    for size in (plan.size, 10 * plan.size, 50 * plan.size):
        plane = world.plane(1 << 15, 1 << 18)
        tables = KernelTables(plane)
        steer = world.steering(tables)
        fill(steer, tables, list(_mesh.large(plan.services * plan.size // size, size)))
        results["change"][str(size)] = change(steer, tables, size, plan)
        world.clear(plane)
    mesh = list(_mesh.large(plan.services, plan.size))
    results["sized"] = cold(world, mesh, plan, 1 << 15, 1 << 18)
    results["growing"] = cold(world, mesh, plan, Sizes().vips, Sizes().slots)
    results["grow"] = grow(world, mesh, plan)
    return results


def show(results: dict[str, Any]) -> None:
    """Tables to standard output."""
    rows = [
        [f"{int(count):,}", *[f"{us:.2f}" for us in one.values()],
         f"{one['batch, packed'] / one['mapped']:.1f}",
         f"{one['batch, from rows'] / one['mapped']:.1f}"]
        for count, one in results["segment"].items()
    ]  # fmt: skip
    columns = ["slots", "mapped us", "batch us", "from rows us", "batch x", "from rows x"]
    harness.show("tables: write a segment", columns, rows)
    rows = [[name, f"{us:.2f}"] for name, us in results["flip"].items()]
    harness.show("tables: replace a record", ["way", "us"], rows)
    columns = ["endpoints", "put us", "plan us", "write us", "all us", "operations", "map calls"]
    parts = ("put_us", "plan_us", "write_us", "all_us")
    rows = [
        [f"{int(size):,}", *[f"{one[part]:.0f}" for part in parts],
         f"{one['operations']:.1f}", f"{one['map_calls']:.0f}"]
        for size, one in results["change"].items()
    ]  # fmt: skip
    harness.show("tables: one endpoint changes", columns, rows)
    _show_whole(results)
    rows = [[name, f"{one['cpu_ms']:.1f}", f"{one['wall_ms']:.1f}"]
            for name, one in results["grow"].items()]  # fmt: skip
    harness.show("tables: grow", ["what", "CPU ms", "wall ms"], rows)


def _show_whole(results: dict[str, Any]) -> None:
    plan = results["plan"]
    title = f"tables: {plan['services']:,} services of {plan['size']} endpoints"
    columns = ["case", "put s", "plan s", "write s", "grow s", "all s", "slice ms", "ops"]
    rows = []
    for kind, sizes in (("sized", ""), ("growing", ", growing")):
        for case, one in results[kind].items():
            parts = [f"{one[f'{part}_s']:.3f}" for part in ("put", "plan", "write", "grow", "all")]
            longest = f"{one['longest_plan_ms']:.1f}"
            rows.append([f"{case}{sizes}", *parts, longest, f"{one['operations']:,.0f}"])
    harness.show(title, columns, rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds, numbers of no worth")
    parser.add_argument("--results", type=Path, help="folder of tables.json")
    args = parser.parse_args()
    privately("benchmarks.tables")
    if args.results:
        harness.RESULTS = args.results
    interrupts = Interrupts()
    try:
        with interrupts.raised(), Stage(interrupts.held) as stage:
            bpffs = stage.mount("bpf", "-t", "bpf", "bpf")
            cgroup2 = stage.mount("cgroup2", "--bind", str(stage.cgroup("kmesh")))
            results = everything(World(bpffs, cgroup2), QUICK if args.quick else FULL)
    except Interrupted as signal:
        sys.exit(f"stopped by {signal}; everything was removed")
    show(results)
    print(harness.save("tables", results))


if __name__ == "__main__":
    main()
