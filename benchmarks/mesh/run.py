"""The contenders set up, and all cases in turns."""

from __future__ import annotations

import random
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import _load
from benchmarks._load import Load
from benchmarks._stage import Failed, settle, used_us
from benchmarks._turns import Cell, Turn, foreign_s, slice_of
from benchmarks.mesh import beside, bursts, ours, proxies, site, tools, upstream, ztunnel
from benchmarks.mesh.beside import AGAIN, DIRECT, OURS, Seen, Slice
from benchmarks.mesh.contend import Contender, Options, direct, nftables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._stage import Stage
    from benchmarks.mesh.scenarios import Case, Plan

UPSTREAM = "upstream"
STUMBLES = 3  # slices of direct that may fail in a run
MAKERS: dict[str, tuple[Any, bool]] = {
    DIRECT: (direct, False),
    AGAIN: (direct, False),
    OURS: (ours.kmesh, False),
    "nft": (nftables, True),
    "envoy-sidecar": (proxies.sidecars, True),
    "envoy-node": (proxies.node, True),
    "envoy-node-out": (proxies.node_out, True),
    UPSTREAM: (upstream.kmesh, False),
    **{name: (make, True) for name, make in ztunnel.MAKERS.items()},
}
"""Who sets a contender up, and whether its pods need a route for service addresses."""


class Show:
    """All contenders on a stage. What fails is left out from then on and named in ``missing``."""

    def __init__(self, stage: Stage, plan: Plan, options: Options) -> None:
        self.stage, self.plan, self.options = stage, plan, options
        self.contenders: dict[str, Contender] = {}
        self.missing: dict[str, str] = {}
        self.failed: dict[tuple[str, Case], str] = {}
        self.openings: dict[Case, list[Turn]] = {}
        self._stumbled = 0

    def set_up(self, names: Sequence[str], clients: int, *, bulk: bool) -> None:
        """Make the contenders one after the other."""
        for index, name in enumerate(names):
            make, vips = MAKERS[name]
            start = time.monotonic()
            try:
                built = site.build(self.stage, _slug(name), index, clients, vips=vips)
                made = make(self.stage, built, self.options)
                self._servers(made, bulk=bulk)
            except Failed as failed:
                if name == DIRECT:
                    raise
                self.missing[name] = str(failed)
                continue
            self.contenders[name] = made
            say(f"{name}: ready after {time.monotonic() - start:.1f} s")

    def _servers(self, made: Contender, *, bulk: bool) -> None:
        relays = {8081: "hop2", 8082: "web"}
        for pod, (port, service) in zip(made.site.servers, relays.items(), strict=True):
            to = made.target(service).split(",")[0]
            command = [self.stage.server, "relay", str(port), to]
            self.stage.start(command, pod.place, wait=True)
        if bulk:
            tools.serve_bulk(self.stage, made.site)

    def warm_up(self) -> None:
        """Neighbour tables, first connections; a contender that does not answer is left out."""
        for name, one in list(self.contenders.items()):
            for service in ("web", "hop1"):
                try:
                    load = Load("short", 4, 50, one.target(service))
                    for place in (pod.place for pod in one.site.clients):
                        _load.run(self.stage, place, load)
                except Failed as failed:
                    if name == DIRECT:
                        raise
                    self.missing[name] = str(failed)
                    self.contenders.pop(name, None)

    def rest(self, seconds: float) -> None:
        """Find out what the contenders use while nothing happens."""
        groups = [group for one in self.contenders.values() for group in one.works]
        settle(groups)
        before, start = {group: used_us(group) for group in groups}, time.monotonic()
        time.sleep(seconds)
        cpus = 1e6 * (time.monotonic() - start)
        for name, one in self.contenders.items():
            idle = sum(used_us(group) - before[group] for group in one.works) / cpus
            self.contenders[name] = one._replace(idle=idle)

    def turns(self, cases: Sequence[Case]) -> dict[Case, list[Seen]]:
        """Every case for some cycles, then every case again, so that a disturbance does not meet
        one case alone."""
        found: dict[Case, list[Seen]] = {case: [] for case in cases}
        dice = random.Random(1)
        for number in range(self.plan.rounds):
            start = time.monotonic()
            for case in cases:
                if case.tool and number >= self.plan.tool_rounds:
                    continue
                names = [name for name in self.contenders if self._takes_part(name, case)]
                found[case] += self._cycles(case, names, number, dice)
                if case.burst:
                    self._bursts(case, dice)
            say(f"round {number + 1} of {self.plan.rounds}: {time.monotonic() - start:.0f} s")
        return found

    def _cycles(
        self, case: Case, names: Sequence[str], number: int, dice: random.Random
    ) -> list[Seen]:
        cycles = self.plan.goal_cycles if case.burst else 1
        others = [name for name in names if name != DIRECT]
        order = beside.order(others, cycles, dice)
        seen = beside.between(order, partial(self._slice, case))
        return [one._replace(cycle=number * cycles + one.cycle) for one in seen]

    def _takes_part(self, name: str, case: Case) -> bool:
        able = self.contenders[name].udp or not case.udp
        return able and (name, case) not in self.failed

    def _bursts(self, case: Case, dice: random.Random) -> None:
        ways = {name: self.contenders[name].way(case.service)
                for name in bursts.WAYS if name in self.contenders}  # fmt: skip
        if OURS not in ways:
            return
        try:
            for _ in range(self.plan.openings):
                found = bursts.opening(self.stage, ways, case, self.plan.burst_s, dice)
                self.openings.setdefault(case, []).append(found)
        except Failed as failed:
            self.failed[f"bursts of {OURS}", case] = str(failed)

    def _slice(self, case: Case, name: str) -> Slice:
        start, busy = time.monotonic(), foreign_s(self.stage)
        skipped = name != DIRECT and (name, case) in self.failed
        cell = None if skipped else self._cell(case, name)
        return Slice(cell, time.monotonic() - start, foreign_s(self.stage) - busy)

    def _cell(self, case: Case, name: str) -> Cell | None:
        way = self.contenders[name].way(case.service)
        try:
            if case.tool:
                return tools.measure(self.stage, way, case.tool)
            loads = [load._replace(targets=way.targets) for load in case.loads]
            return slice_of(self.stage, way, *loads, watched=case.watched)
        except Failed as failed:
            self.failed[name, case] = str(failed)
            self._stumbled += name == DIRECT  # without it nothing is compared: it is tried again
            if self._stumbled > STUMBLES:
                raise
            return None


def rows(found: dict[Case, list[Seen]], names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each case and contender."""
    return [
        {"scenario": case.scenario, "case": case.name} | row
        for case, seen in found.items()
        for row in beside.rows(seen, names)
    ]


def say(text: str) -> None:
    """Progress, which is no result."""
    print(text, file=sys.stderr, flush=True)


def _slug(name: str) -> str:
    return name.replace(" ", "-")
