"""How does the agent's cost grow with the mesh, and with what happens to it?

Each mesh is served by a control plane in a process of its own to an agent as users run it (real
maps, programs on an empty cgroup). ``size`` is the ordinary mesh at several sizes; on the largest,
what happens to meshes: the stream ends and comes back, changes arrive at steady rates, a
deployment restarts, a namespace goes. The other curves are meshes of one unusual shape.

CPU is that of the agent's process, user and system; that of a reconnect without changes is the mean
of several in a row, without what the agent uses in that time when nothing happens. "acked" is from
the response's way into the transport to its ACK, which the agent sends after the last map write;
"visible" is what the agent measures itself from the first byte. Kernel memory is the kernel's own
count of each map.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import _scale, harness
from benchmarks._fit import fit
from benchmarks._goals import ALL_CLAIMED
from benchmarks._scale import Numbers, World, world
from benchmarks._stage import Failed, Stage, privately
from kmesh.lab.interrupts import Interrupted, Interrupts


class Plan(NamedTuple):
    """Sizes of the curves, rates of the churn and how long each lasts; how long an idle agent is
    watched. Times are seconds."""

    sizes: tuple[int, ...]
    shapes: dict[str, tuple[int, ...]]
    rates: tuple[int, ...]
    seconds: float
    idle: float


FULL = Plan(
    (1000, 3000, 10_000, 30_000, 100_000),
    {
        "endpoints of one service": (1000, 3000, 10_000),
        "ports of one service": (50, 160, 500),
        "address ranges": (1000, 3000, 10_000),
        "policies": (1000, 3000, 10_000),
        "policies of one pod": (1000, 3000, 10_000),
    },
    (100, 1000, 5000),
    20.5,  # as many responses as the agent remembers
    10.0,  # two of its looks at open connections
)
QUICK = Plan(
    (500, 1000),
    dict.fromkeys(FULL.shapes, (20, 60)),
    (200,),
    1.0,
    0.1,
)
PER_SERVICE = 20
WHOLE = "--xds-max-request", "64MiB"
ALONE = "--audit-interval", "never"


def put_of(name: str, size: int) -> Any:
    """What a control plane is told for one point of a curve."""
    if name == "workloads":
        return _scale.large(size, size // PER_SERVICE)
    if name == "endpoints of one service":
        return _scale.shape("wide", size, 1, endpoints=size)
    if name == "ports of one service":
        return _scale.shape("many_ports", PER_SERVICE, 1, count=size, endpoints=PER_SERVICE)
    if name == "address ranges":
        return _scale.shape("cidrs", size // 10, size // 10, count=size)
    return _scale.policies(size, 200 if name == "policies" else 1)


def events(one: World, size: int, plan: Plan) -> Numbers:
    """What happens to the largest mesh, in an order in which nothing disturbs the next."""
    services = size // PER_SERVICE
    found: Numbers = {
        "reconnect, 1 % changed": _scale.reconnect(one, size, size // 100),
    }
    for rate in plan.rates:
        found[f"churn {rate:,}/s"] = _scale.churn(one, size, plan.seconds, rate)
    found["a deployment restarts"] = _scale.happens(
        one, "restart", service=1, first=PER_SERVICE, count=PER_SERVICE
    )
    found["a namespace goes"] = _scale.happens(
        one, "remove_namespace", namespace=2, workloads=size, services=services
    )
    return found


def curve(stage: Stage, name: str, sizes: tuple[int, ...], plan: Plan) -> Numbers:
    """Cold starts at several sizes; on the largest of ``workloads`` the events too."""
    points: list[Numbers] = []
    found: Numbers = {"points": points}
    for size in sizes:
        numbers: Numbers = {"size": size}
        slug = f"{name.replace(' ', '-')}-{size}"
        print(f"{name}: {size:,}", file=sys.stderr, flush=True)
        last = name == "workloads" and size == sizes[-1]
        with world(stage, slug, put_of(name, size), numbers) as one:
            if last:
                found["events"] = events(one, size, plan)
            if name.startswith("policies"):
                numbers["enrolled"] = _scale.enrolled(one)
        if last:
            found["events"] = unchanged(stage, size, plan.idle) | found["events"]
        points.append(numbers)
    return found | {"fit": fits(points)}


def unchanged(stage: Stage, size: int, idle: float) -> Numbers:
    """Reconnects without changes, with a request of the default size and one that has room for
    everything that is held; no audit falls into them."""
    found = {}
    for name, options in (("reconnect", ()), (ALL_CLAIMED, WHOLE)):
        slug = name.replace(" ", "-").replace(",", "")
        with world(stage, slug, put_of("workloads", size), {}, *ALONE, *options) as one:
            found[name] = _scale.unchanged(one, size, idle)
    return found


def noise(stage: Stage, curve_: Numbers) -> Numbers:
    """How far a cold start is from the same one again, as a share, for each number."""
    first = curve_["points"][len(curve_["points"]) // 2]
    numbers: Numbers = {}
    with world(stage, "again", put_of("workloads", first["size"]), numbers):
        pass
    pairs = {name: (first["cold"][name], numbers["cold"][name])
             for name in ("cpu_s", "peak_rss_mib", "map_mib")}  # fmt: skip
    return {name: abs(one - two) / max(one, two) for name, (one, two) in pairs.items()}


def fits(points: list[Numbers]) -> Numbers:
    """How CPU and memory grow, as exponents; memory counts beyond what the smallest has."""
    made = {}
    for field in ("cpu_s", "map_mib"):
        one = fit([(each["size"], each["cold"][field]) for each in points])
        made[field] = one._asdict() | {"super_linear": one.super_linear}
    if "enrolled" in points[0]:
        one = fit([(each["size"], each["enrolled"]["cpu_s"]) for each in points])
        made["enrolled_cpu_s"] = one._asdict() | {"super_linear": one.super_linear}
    return made


def show(results: Numbers) -> None:
    """Tables to standard output."""
    columns = ("size", "CPU s", "us each", "acked s", "stall ms", "own", "RSS MiB", "peak",
               "maps MiB")  # fmt: skip
    for name, one in results["curves"].items():
        harness.show(
            f"scale: {name}, cold start", columns, [_point(each) for each in one["points"]]
        )
        for field, each in one["fit"].items():
            steps = ", ".join(f"{step:.2f}" for step in each["steps"])
            print(f"{name}: {field} grows with exponent {each['exponent']:.2f} (steps {steps})")
        if "events" in one:
            _show_events(one["events"])
        if "enrolled" in one["points"][0]:
            rows = [_enrolled(each) for each in one["points"]]
            names = ("size", "CPU s", "s", "stall ms", "own", "maps MiB", "mode", "reason")
            harness.show(f"scale: {name}, a pod is enrolled", names, rows)
    for name, why in results["failed"].items():
        print(f"failed: {name}: {why}")


def _point(one: Numbers) -> list[str]:
    cold = one["cold"]
    each = 1e6 * cold["cpu_s"] / one["resources"]
    numbers = [f"{cold['cpu_s']:.2f}", f"{each:.0f}", f"{cold['acked_s']:.2f}"]
    numbers += [f"{cold[name]:.1f}" for name in ("stall_ms", "stall_cpu_ms")]
    numbers += [f"{cold[name]:.1f}" for name in ("rss_mib", "peak_rss_mib", "map_mib")]
    return [f"{one['size']:,}", *numbers]


def _enrolled(one: Numbers) -> list[str]:
    found = one["enrolled"]
    numbers = [f"{found[name]:.2f}" for name in ("cpu_s", "wall_s")]
    numbers += [f"{found[name]:.1f}" for name in ("stall_ms", "stall_cpu_ms", "map_mib")]
    return [f"{one['size']:,}", *numbers, found["mode"], found["reason"]]


def _show_events(events: Numbers) -> None:
    columns = ("what", "resources", "CPU s", "acked p50 ms", "p99", "longest", "visible p50",
               "p99", "longest", "stall ms", "own")  # fmt: skip
    rows = []
    for name, one in events.items():
        numbers = [f"{one.get('resources', one.get('changed')):,}", f"{one['cpu_s']:.2f}"]
        for part in ("acked_ms", "visible_ms"):
            spread = one.get(part, {})
            numbers += [f"{spread[q]:.1f}" if q in spread else "" for q in ("p50", "p99", "max")]
        stalls = [f"{one['stall_ms']:.1f}", f"{one['stall_cpu_ms']:.1f}"]
        rows.append([name, *numbers, *stalls])
    harness.show("scale: what happens to the largest mesh", columns, rows)


def everything(stage: Stage, names: list[str], plan: Plan) -> Numbers:
    """All curves by name; one that fails does not stop the others."""
    sizes = {"workloads": plan.sizes, **plan.shapes}
    results: Numbers = {"plan": plan._asdict(), "curves": {}, "failed": {}}
    for name in names:
        try:
            results["curves"][name] = curve(stage, name, sizes[name], plan)
        except Failed as failed:
            results["failed"][name] = str(failed)
    if "workloads" in results["curves"]:
        results["noise"] = noise(stage, results["curves"]["workloads"])
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser("scale", description=__doc__)
    known = ["workloads", *FULL.shapes]
    parser.add_argument("--curve", action="append", choices=known, help="all without it")
    parser.add_argument("--quick", action="store_true", help="a few seconds, numbers of no worth")
    parser.add_argument("--results", type=Path, help="folder of scale.json")
    args = parser.parse_args()
    privately("benchmarks.scale")
    if args.results:
        harness.RESULTS = args.results
    interrupts = Interrupts()
    try:
        with interrupts.raised(), Stage(interrupts.held) as stage:
            results = everything(stage, args.curve or known, QUICK if args.quick else FULL)
    except Interrupted as signal:
        sys.exit(f"stopped by {signal}; everything was removed")
    show(results)
    print(harness.save("scale", results))
    if results["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
