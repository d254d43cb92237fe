"""What does a mesh cost? Contenders side by side: same namespaces, same clients, same run.

Each contender has client and server namespaces of its own on one bridge, without a route out. They
take turns in short slices, in another order each time, each between two slices of direct, and a
ratio is that of a slice to the mean of these two; "direct 2" is direct in other namespaces. Slices
during which something else used much CPU are left out, up to two thirds of them. CPU is that of
clients, servers and whatever works for the contender (proxies, agent), with the kernel's work for
them, less what the contender uses while nothing happens. What a goal is about gets most time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks._goals import PROXIES
from benchmarks._stage import Failed, Stage, privately
from benchmarks.mesh import bursts, contend, memory, report, scenarios, tools, ztunnel
from benchmarks.mesh.beside import AGAIN, DIRECT, OURS
from benchmarks.mesh.contend import Options
from benchmarks.mesh.run import MAKERS, UPSTREAM, Show, rows
from benchmarks.mesh.scenarios import FULL, QUICK, SCENARIOS, Plan
from kmesh.lab.interrupts import Interrupted, Interrupts

DEFAULT = (DIRECT, OURS, "nft", "envoy-sidecar", *PROXIES, AGAIN)


def everything(
    stage: Stage,
    contenders: list[str],
    chosen: list[str],
    plan: Plan,
    options: Options,
    sizes: tuple[int, ...],
) -> dict[str, Any]:
    """The whole benchmark on a stage; ``sizes`` are the meshes of which memory is measured."""
    missing = tools.install(tools.needed(chosen))
    all_cases = [case for case in scenarios.cases(chosen, plan) if case.tool not in missing]
    show = Show(stage, plan, options)
    bulk = any(case.tool == "iperf3" for case in all_cases)
    show.set_up(contenders, scenarios.clients_needed(all_cases, plan), bulk=bulk)
    show.warm_up()
    show.rest(plan.idle_s)
    found = rows(show.turns(all_cases), list(show.contenders))
    for one in show.contenders.values():
        one.check()
    held = memory.measure(stage, sizes, contenders, options) if sizes else []
    failed = {f"{name}, {case.scenario}, {case.name}": why
              for (name, case), why in show.failed.items()}  # fmt: skip
    return {
        "plan": plan._asdict(),
        "contenders": {name: one.facts._asdict() | {"idle": one.idle}
                       for name, one in show.contenders.items()},
        "tools": {name: tools.version(name) for name in tools.needed(chosen)
                  if name not in missing},
        "rows": found,
        "bursts": bursts.rows(show.openings),
        "memory": held,
        "missing": missing | show.missing | failed,
    }  # fmt: skip


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; exits with a message when it is wrong."""
    parser = argparse.ArgumentParser("mesh", description=__doc__)
    names = _names(parser, MAKERS)
    parser.add_argument("--contenders", type=names,
                        help=f"comma list of {', '.join(MAKERS)}; without it those that need no "
                             "binary of yours, and those whose binary is given")  # fmt: skip
    parser.add_argument("--scenario", type=_names(parser, SCENARIOS), default=list(SCENARIOS),
                        help=f"comma list of {', '.join(SCENARIOS)}")  # fmt: skip
    parser.add_argument("--memory", action="store_true", help="also memory by size of the mesh")
    parser.add_argument("--rounds", type=int, help="turns of each case")
    parser.add_argument(
        "--quick", action="store_true", help="one round in a minute or two, numbers of no worth"
    )
    parser.add_argument("--results", type=Path, help="folder of mesh.json")
    parser.add_argument("--ztunnel", type=Path, metavar="PATH",
                        help=f"a ztunnel binary, for {', '.join(ztunnel.MAKERS)}")  # fmt: skip
    parser.add_argument("--kmesh", type=Path, metavar="PATH",
                        help=f"the agent in Go, for {UPSTREAM}")  # fmt: skip
    args = parser.parse_args(arguments)
    _with_binaries(parser, args)
    return args


def _with_binaries(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Whose binary is given takes part, and who takes part has one."""
    binaries = (
        ("--ztunnel", args.ztunnel, set(ztunnel.MAKERS), "a build with --features testing"),
        ("--kmesh", args.kmesh, {UPSTREAM}, "kmesh-daemon"),
    )
    if args.contenders is None:
        given = {name for _, path, names, _ in binaries if path for name in names}
        args.contenders = [name for name in MAKERS if name in DEFAULT or name in given]
    for option, path, users, what in binaries:
        used = users & set(args.contenders)
        if used and (why := contend.missing(path)):
            parser.error(f"{option}: {why} ({what})")
        if path and not used:
            parser.error(f"{option}: nobody uses it: add {' or '.join(sorted(users))}")


def _names(parser: argparse.ArgumentParser, known: Any) -> Any:
    def read(text: str) -> list[str]:
        found = text.split(",")
        for name in found:
            if name not in known:
                parser.error(f"{name!r} is none of {', '.join(known)}")
        return found

    return read


def main() -> None:
    """Command line."""
    args = parse()
    privately("benchmarks.mesh")
    if args.results:
        harness.RESULTS = args.results
    plan = QUICK if args.quick else FULL
    if args.rounds:
        plan = plan._replace(rounds=args.rounds)
    contenders = [DIRECT, *(name for name in args.contenders if name != DIRECT)]
    sizes = (memory.QUICK_SIZES if args.quick else memory.SIZES) if args.memory else ()
    binaries = [path and path.resolve() for path in (args.ztunnel, args.kmesh)]
    options = Options(plan.services, plan.endpoints, *binaries)
    interrupts = Interrupts()
    try:
        with interrupts.raised(), Stage(interrupts.held) as stage:
            results = everything(stage, contenders, args.scenario, plan, options, sizes)
    except Interrupted as signal:
        sys.exit(f"stopped by {signal}; everything was removed")
    except Failed as failed:
        sys.exit(f"mesh: {failed}")
    report.show(results)
    print(harness.save("mesh", results))


if __name__ == "__main__":
    main()
