"""Contenders that take turns: each is measured for a slice, then the next, in another order each
time; what is compared are slices of one turn."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from benchmarks import _load, harness
from benchmarks._stage import Cpu, cpu_us, settle
from benchmarks._sure import middle

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks._load import Found, Histogram, Load
    from benchmarks._stage import Place, Stage

QUIET = 0.15  # CPUs that others may use meanwhile
PERCENTILES = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "p999_us": 0.999}


class Way(NamedTuple):
    """How clients reach the servers. ``works`` are the cgroups of what else works for them:
    proxies and agents, which use ``idle`` CPUs while nothing happens."""

    name: str
    clients: tuple[Place, ...]
    targets: str
    servers: Path
    works: tuple[Path, ...] = ()
    idle: float = 0.0


class Cell(NamedTuple):
    """One slice: numbers by name (CPU in microseconds per operation) and latencies."""

    numbers: dict[str, float]
    histogram: Histogram


class Turn(NamedTuple):
    """Everybody measured once, one after the other; ``others`` is how many CPUs were used by
    something else meanwhile."""

    cells: Mapping[str, Cell]
    others: float


def slice_of(stage: Stage, way: Way, *loads: Load, watched: int = 0) -> Cell:
    """Loads at the same time, from one client place after the other; rate and latencies are those
    of the first ``watched``, 0 is all. Raises Failed."""
    groups = [way.servers, *way.works]
    start = time.monotonic()
    before = [cpu_us(one) for one in groups]
    clients = [(way.clients[i % len(way.clients)], load) for i, load in enumerate(loads)]
    found = _load.together(stage, clients)
    seen = _load.merge(found[:watched] if watched else found)
    settle(groups)  # closing thousands of connections is this way's cost, not the next one's
    used = [
        Cpu(now.user - old.user, now.system - old.system)
        for now, old in zip(map(cpu_us, groups), before, strict=True)
    ]
    client = Cpu(sum(one.user_us for one in found), sum(one.system_us for one in found))
    idle_us = 1e6 * way.idle * (time.monotonic() - start)
    return cell(_load.merge(found), seen, costs(client, *used, idle_us=idle_us))


def costs(client: Cpu, servers: Cpu, *works: Cpu, idle_us: float = 0.0) -> dict[str, float]:
    """Microseconds of CPU by part. What ``works`` would have used as well had nobody asked
    anything (``idle_us``) is told apart: it belongs to the time, not to the requests."""
    gross = sum(map(sum, works))
    idle = min(idle_us, gross)
    found = {"client_us": sum(client), "server_us": sum(servers), "proxy_us": gross - idle}
    kernel = sum(one.system for one in (client, servers, *works))
    return found | {"cpu_us": sum(found.values()), "idle_us": idle, "system_us": kernel}


def cell(found: Found, seen: Found, parts: Mapping[str, float]) -> Cell:
    """Numbers of a slice: bytes and operations of all clients, the rest of those ``seen``;
    ``parts`` are microseconds of CPU."""
    numbers = {name: value / found.operations for name, value in parts.items()}
    numbers |= {
        "rate": seen.rate,
        "bytes_per_s": found.bytes / found.seconds,
        "lost": found.lost / (found.operations + found.lost),
    }
    return Cell(numbers, seen.histogram)


def turn(
    stage: Stage, names: Sequence[str], measure: Callable[[str], Cell | None], dice: random.Random
) -> Turn:
    """Everybody once, in an order of the dice; who gives None is left out."""
    start, busy = time.monotonic(), foreign_s(stage)
    found = {name: measure(name) for name in dice.sample(names, len(names))}
    cells = {name: one for name, one in found.items() if one is not None}
    return Turn(cells, (foreign_s(stage) - busy) / (time.monotonic() - start))


def foreign_s(stage: Stage) -> float:
    """CPU seconds since boot of all but this benchmark, whatever the hypervisor took included."""
    with open("/proc/stat") as file:
        fields = file.readline().split()[1:9]
    idle = int(fields[3]) + int(fields[4])
    total = (sum(map(int, fields)) - idle) / os.sysconf("SC_CLK_TCK")
    return total - sum(cpu_us(stage.cgroups)) / 1e6 - time.process_time()


class Disturbed(Protocol):
    """Something measured while ``others`` CPUs were used by something else."""

    @property
    def others(self) -> float: ...


Measured = TypeVar("Measured", bound=Disturbed)


def kept(turns: Sequence[Measured]) -> list[Measured]:
    """Those during which little else ran; at least a third, the calmest. Results do not count."""
    calm = sorted(turns, key=lambda one: one.others)
    quiet = sum(one.others < QUIET for one in turns)
    return calm[: max(quiet, -(-len(turns) // 3))]


def row(turns: Sequence[Turn], name: str, base: str) -> dict[str, Any]:
    """One way's medians over the turns kept, percentiles of all their requests together, and the
    median of each turn's own ratio to ``base`` with its bounds."""
    cells = [one.cells[name] for one in turns]
    found: dict[str, Any] = {"way": name, "turns": len(turns)}
    found["others"] = max(one.others for one in turns)
    for field in cells[0].numbers:
        found[field] = statistics.median(each.numbers[field] for each in cells)
    histogram: Counter[int] = Counter()
    for each in cells:
        histogram.update(each.histogram)
    found["samples"] = histogram.total()
    if histogram:
        for field, part in PERCENTILES.items():
            found[field] = _load.quantile_us(histogram, part)
    for field in ("rate", "cpu_us"):
        ratios = [_ratio(one, name, base, field) for one in turns]
        found[f"{field}_ratio"] = middle(ratios)
    return found


def _ratio(one: Turn, name: str, base: str, field: str) -> float:
    mine, theirs = (one.cells[each].numbers[field] for each in (name, base))
    return mine / theirs if theirs else math.nan


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and the middle half."""
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive")
        if len(values) > 1
        else (values[0],) * 3
    )
    return {"median": middle, "low": low, "high": high}


def show(title: str, load: Sequence[dict[str, Any]], base: str, third: str, rounds: int) -> None:
    """Two tables for each ``mode``, and how disturbed the run was; ``third`` is who works besides
    client and server."""
    for mode in dict.fromkeys(each["mode"] for each in load):
        rows = [each for each in load if each["mode"] == mode]
        columns = ["way", "open", "per s", f"x {base}", "19 of 20", "p50 us", "p99 us"]
        harness.show(f"{title}: {mode}", columns, [_rate_cells(each) for each in rows])
        columns = ["way", "open", "CPU us", f"x {base}", "19 of 20", "client", "server", third]
        harness.show(f"{title}: CPU of {mode}", columns, [_cpu_cells(each) for each in rows])
    turns, others = [each["turns"] for each in load], max(each["others"] for each in load)
    print(f"turns kept: {min(turns)} to {max(turns)} of {rounds}; ", end="")
    print(f"others used up to {others:.2f} CPUs meanwhile")


def _ratio_cells(found: dict[str, float]) -> list[str]:
    return [f"{found['median']:.3f}", f"{found['low']:.2f}-{found['high']:.2f}"]


def _rate_cells(one: dict[str, Any]) -> list[str]:
    name = [one["way"], str(one["connections"]), f"{one['rate']:,.0f}"]
    return [*name, *_ratio_cells(one["rate_ratio"]), f"{one['p50_us']:.1f}", f"{one['p99_us']:.1f}"]


def _cpu_cells(one: dict[str, Any]) -> list[str]:
    name = [one["way"], str(one["connections"]), f"{one['cpu_us']:.1f}"]
    parts = [f"{one[part]:.1f}" for part in ("client_us", "server_us", "proxy_us")]
    return [*name, *_ratio_cells(one["cpu_us_ratio"]), *parts]
