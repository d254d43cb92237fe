"""Does the agent ever lose, misroute or wrongly admit a connection while everything restarts?

Two clients dial three servers without a pause, over TCP and UDP, by VIP and by address; what they
must meet is known beforehand (see soak.c). Meanwhile the mesh changes several times a second, the
control plane is killed, and the agent is ended, killed, replaced by another build, and killed in
storms while it starts, again and again.

``./run soak -- --minutes N`` or ``python -m benchmarks.soak [--quick] [--minutes N] [--seed N]
[--other FOLDER] [--results FOLDER]``; the other build is made, with tables of another layout,
unless its ``src`` is given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kmesh
from benchmarks import _soak_site as site
from benchmarks import harness
from benchmarks._soak_agent import Agent
from benchmarks._stage import Failed, Place, Stage, privately
from kmesh.lab.interrupts import Interrupted, Interrupts
from tests import other_build
from tests.held import Held

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

MOST_MINUTES = 110.0
CHANGE_EVERY = 0.3  # seconds
PLANE_EVERY = 12  # restarts of the agent for one of the control plane
OWN = str(Path(kmesh.__file__).parent.parent)
SUMS = ("made", "refused", "failed", "misrouted", "violations", "exchanges", "lost")


class Changes:
    """Changes the mesh in a thread until the block ends."""

    def __init__(self, plane: site.ControlPlane) -> None:
        self._plane, self._stop = plane, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(CHANGE_EVERY):
            self._plane.change()


class Stand:
    """Servers, clients' namespaces and what they dial, all enrolled."""

    def __init__(self, stage: Stage, options: argparse.Namespace) -> None:
        self.program = stage.compile("soak")
        self._stage, self.pods = stage, stage.cgroup("pods")
        everybody = (*site.SERVERS, site.FRIEND, site.STRANGER)
        self.places = {one: Place(stage.namespace([one]), self.pods) for one in everybody}
        for one, place in self.places.items():
            stage.route(place.netns, [f"{other}/32" for other in everybody if other != one])
        for one in site.SERVERS:
            ends = [f"{one}:{site.OPEN}", f"{one}:{site.GUARDED}"]
            stage.start([self.program, "serve", *ends], self.places[one], wait=True)
        self.plane = site.ControlPlane(stage, options.seed)
        builds = [OWN, other(stage, options.other)]
        self.agent = Agent(stage, self.plane.address, self.pods, builds, options.seed)
        self.agent.wait_synced()
        for one, place in self.places.items():
            self.agent.client.enrol(place.netns, site.uid(one))
        while len(self.agent.wait_synced()["authorization"]["pods"]) < len(everybody):
            time.sleep(0.1)

    def diallers(self, seconds: float) -> list[subprocess.Popen[str]]:
        """Clients on their way; they end by themselves, or when they are told to."""
        return [self.dialler(one, seconds, pairs) for one, pairs in site.pairs().items()]

    def dialler(
        self, client: str, seconds: float, pairs: Sequence[str], cpu: int | None = None
    ) -> subprocess.Popen[str]:
        """One client."""
        command = [self.program, "dial", str(int(1000 * seconds)), *pairs]
        return self._stage.start(command, self.places[client]._replace(cpu=cpu), wait=True)


def other(stage: Stage, folder: str) -> str:
    """The ``src`` of another build: this one, or one that is made here, whose tables have another
    layout, so that every replacement carries their contents over."""
    if folder:
        return folder
    directory = stage.folder / "other"
    directory.mkdir()
    return str(other_build.make(directory, other_build.WIDER))


def collect(stage: Stage, diallers: list[subprocess.Popen[str]]) -> Iterator[dict[str, Any]]:
    """What the clients met. Raises Failed."""
    for one in diallers:
        output, _ = one.communicate("\n")
        if one.returncode:
            raise Failed(f"a client failed: {stage.last_words(one)}")
        yield json.loads(output)


def soak(stage: Stage, options: argparse.Namespace) -> dict[str, Any]:
    """One run."""
    stand = Stand(stage, options)
    agent, plane = stand.agent, stand.plane
    turns = 0
    begun = time.monotonic()
    diallers = stand.diallers(60 * options.minutes + 300)
    with Changes(plane):
        while time.monotonic() - begun < 60 * options.minutes:
            agent.restart()
            turns += 1
            if turns % PLANE_EVERY == 0:
                plane.kill()
                plane.start()
    agent.wait_synced()
    seconds = time.monotonic() - begun
    met = list(collect(stage, diallers))
    found: dict[str, Any] = {name: sum(each[name] for each in met) for name in SUMS}
    return found | {
        "longest_gap_ms": max(each["longest_gap_us"] for each in met) / 1000,
        "seconds": seconds,
        "connections_per_s": found["made"] / seconds,
        "restarts": agent.ends,
        "times_in_sync": len(agent.adopt_seconds),
        "restarts_by_way": dict(agent.ways),
        "restart_seconds_median": statistics.median(agent.adopt_seconds),
        "control_plane_restarts": plane.starts - 1,
        "meshes": plane.meshes,
        "audit_differences": dict(agent.differences),
        **growth(agent.held),
        "samples": [sample for each in met for sample in each["samples"]],
    }


def growth(samples: list[tuple[int, Held]]) -> dict[str, float]:
    """Of each thing that agents hold the first and the last sample, and how much it grew with each
    restart: the slope of the line through all samples, which a leak cannot hide from."""
    ends = [float(each) for each, _ in samples]
    found: dict[str, float] = {}
    for name in Held._fields if samples else ():
        values = [float(getattr(each, name)) for _, each in samples]
        found[f"{name}_first"], found[f"{name}_last"] = int(values[0]), int(values[-1])
        if len(set(ends)) > 1:
            found[f"{name}_per_restart"] = statistics.linear_regression(ends, values).slope
    return found


def report(found: dict[str, Any]) -> bool:
    """The table; whether the goal is reached."""
    goals = dict.fromkeys(("failed", "misrouted", "violations", "lost"), "0")
    rows = [
        (name, f"{value:,.2f}" if isinstance(value, float) else f"{value:,}", goals.get(name, ""))
        for name, value in found.items()
        if isinstance(value, int | float)
    ]
    harness.show("soak", ("measure", "value", "goal"), rows)
    for sample in found["samples"]:
        print(sample)
    return not any(found[name] for name in goals)


def main() -> None:
    """Run, and write benchmarks/results/soak.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small run that proves it works")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--other", default="", metavar="FOLDER")
    parser.add_argument("--results", type=Path, help="folder of soak.json")
    options = parser.parse_args()
    if options.results:
        harness.RESULTS = options.results
    if options.minutes is None:
        options.minutes = 0.02 if options.quick else 30.0
    if options.quick and not options.other:
        options.other = OWN
    if not 0 < options.minutes <= MOST_MINUTES:
        parser.error(f"--minutes must be above 0 and at most {MOST_MINUTES:.0f}")
    privately("benchmarks.soak")
    interrupts = Interrupts()
    try:
        with interrupts.raised(), Stage(interrupts.held) as stage:
            found = soak(stage, options)
    except Interrupted as signal:
        sys.exit(f"stopped by {signal}; everything was removed")
    good = report(found)
    harness.save("soak", {"minutes": options.minutes, "seed": options.seed, **found})
    sys.exit(not good)


if __name__ == "__main__":
    main()
