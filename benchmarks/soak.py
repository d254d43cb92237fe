"""Does the agent ever lose, misroute or wrongly admit a connection while everything restarts?

Two clients dial three servers without a pause, over TCP and UDP, by VIP and by address; what they
must meet is known beforehand (see soak.c). Meanwhile the mesh changes several times a second, the
control plane is killed, and the agent is ended, killed, killed while it starts, and replaced by
another build, again and again.

``./run soak -- --minutes N`` or ``python -m benchmarks.soak [--minutes N] [--seed N]
[--other FOLDER]``; FOLDER is the ``src`` of another build, whose tables may have another layout.
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
from benchmarks._server import free_port
from benchmarks._soak_agent import Agent
from benchmarks._stage import Failed, Place, Stage, privately
from kmesh.lab.interrupts import Interrupted, Interrupts

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

MOST_MINUTES = 110.0
CHANGE_EVERY = 0.3  # seconds
PLANE_EVERY = 12  # restarts of the agent for one of the control plane
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
        self.plane = site.ControlPlane(stage, free_port(), options.seed)
        builds = [str(Path(kmesh.__file__).parent.parent), *options.other]
        self.agent = Agent(stage, self.plane.address, self.pods, builds, options.seed)
        self.agent.wait_synced()
        for one, place in self.places.items():
            self.agent.client.enrol(place.netns, site.uid(one))
        while len(self.agent.wait_synced()["authorization"]["pods"]) < len(everybody):
            time.sleep(0.1)

    def diallers(self, seconds: float) -> list[subprocess.Popen[str]]:
        """Clients on their way; they end by themselves, or when they are told to."""
        ms = str(int(1000 * seconds))
        return [
            self._stage.start([self.program, "dial", ms, *pairs], self.places[one], wait=True)
            for one, pairs in site.pairs().items()
        ]


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
    pins, turns = agent.pins(), 0
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
        "restarts_by_way": dict(agent.ways),
        "restart_seconds_median": statistics.median(agent.adopt_seconds),
        "control_plane_restarts": plane.starts - 1,
        "meshes": plane.meshes,
        "builds": 1 + len(options.other),
        "audit_differences": dict(agent.differences),
        "pins_before": pins,
        "pins_after": agent.pins(),
        "samples": [sample for each in met for sample in each["samples"]],
    }


def report(found: dict[str, Any]) -> bool:
    """The table; whether the goal is reached."""
    goals = dict.fromkeys(("failed", "misrouted", "violations", "lost"), "0")
    rows = [
        (name, f"{value:,.1f}" if isinstance(value, float) else f"{value:,}", goals.get(name, ""))
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
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--other", action="append", default=[], metavar="FOLDER")
    options = parser.parse_args()
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
    harness.save("soak", {**vars(options), **found})
    sys.exit(not good)


if __name__ == "__main__":
    main()
