"""One load that goes on while switches are thrown: short slices, each between two of the base.

A slice and those beside it are a fraction of a second apart, so whatever changes more slowly than
that (clock rates, what else the machine does) is in all of them. What is compared is a slice with
the mean of its neighbours, which takes a drift out as well.
"""

from __future__ import annotations

import os
import statistics
import time
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import _load, harness
from benchmarks._stage import READY_WITHIN, Failed, end, used_us
from benchmarks._sure import middle
from benchmarks._turns import PERCENTILES, foreign_s, kept
from kmesh.bpf import query
from kmesh.bpf.objects import SOCK_OPS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks._load import Load
    from benchmarks._stage import Place, Stage

REST_S = 0.01  # after a switch: what was under way is not the next slice's
PARTS = ("client_us", "server_us", "agent_us")


class Seen(NamedTuple):
    """What had been done at a time: operations by latency, CPU microseconds by cgroup."""

    time: float
    counts: array[int]
    used: tuple[float, ...]
    others: float


class Slice(NamedTuple):
    """What was done between two looks; ``others`` are CPU seconds of somebody else."""

    way: str
    seconds: float
    counts: Counter[int]
    used: tuple[float, ...]
    others: float

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.counts.total() / self.seconds

    @property
    def cpu_us(self) -> float:
        """Of everybody, for each operation."""
        return sum(self.used) / self.counts.total()


class Compared(NamedTuple):
    """A slice, and what it is of the mean of its neighbours."""

    slice: Slice
    rate: float
    cpu_us: float
    others: float  # CPUs


class Going:
    """A load that goes on; ``groups`` are the cgroups of client, servers and agent."""

    def __init__(self, stage: Stage, place: Place, load: Load, groups: Sequence[Path]) -> None:
        self._stage, self._groups = stage, groups
        self._file = stage.folder / f"load-{time.monotonic_ns()}"
        command = [*load.command(stage.load), str(self._file)]
        self._process = stage.start(command, place)

    def look(self) -> Seen:
        """What it has done so far. Raises Failed when it does no more."""
        if self._process.poll() is not None:
            raise Failed(f"load ended: {self._stage.last_words(self._process)}")
        others, used = foreign_s(self._stage), tuple(map(used_us, self._groups))
        counts = array("I", self._file.read_bytes())
        return Seen(time.monotonic(), counts, used, others)

    def slice(self, way: str, seconds: float) -> Slice:
        """Watch it for a while."""
        time.sleep(REST_S)
        before = self.look()
        time.sleep(seconds)
        after = self.look()
        pairs = enumerate(zip(after.counts, before.counts, strict=True))
        counts = Counter({i: new - old for i, (new, old) in pairs if new != old})
        used = tuple(new - old for new, old in zip(after.used, before.used, strict=True))
        return Slice(way, after.time - before.time, counts, used, after.others - before.others)

    def begin(self) -> None:
        """Wait for the first answer. Raises Failed."""
        deadline = time.monotonic() + READY_WITHIN
        while not self._file.exists() or not any(self.look().counts):
            if time.monotonic() > deadline:
                raise Failed(f"nothing was answered within {READY_WITHIN:.0f} s")
            time.sleep(0.01)

    def close(self) -> None:
        """End it."""
        end(self._process)
        self._file.unlink(missing_ok=True)


def alternate(
    going: Going, cycle: tuple[str, ...], throw: Callable[[str], None], cycles: int, seconds: float
) -> list[Slice]:
    """Slices of so many ``cycles``, each way switched to with ``throw``."""
    found = []
    for way in cycle * cycles:
        throw(way)
        found.append(going.slice(way, seconds))
    return found


def compared(slices: Sequence[Slice], way: str, reach: int) -> list[Compared]:
    """Each slice of a way against those ``reach`` before and after it, which are of the base; of
    those during which little else ran, at least a third, the calmest. Results do not count. Raises
    Failed when there is none."""
    found = []
    for at in range(reach, len(slices) - reach):
        one, beside = slices[at], (slices[at - reach], slices[at + reach])
        if one.way != way or not all(each.counts for each in (one, *beside)):
            continue  # another way's, or whoever else ran left them nothing
        rate = one.rate / statistics.fmean(each.rate for each in beside)
        cpu_us = one.cpu_us / statistics.fmean(each.cpu_us for each in beside)
        all_of = (one, *beside)
        others = sum(each.others for each in all_of) / sum(each.seconds for each in all_of)
        found.append(Compared(one, rate, cpu_us, others))
    if not found:
        raise Failed(f"{way}: nothing was answered for a whole slice, each time")
    return kept(found)


def row(found: Sequence[Compared]) -> dict[str, Any]:
    """Medians of the slices of a way, percentiles of all their requests together."""
    slices = [each.slice for each in found]
    counts: Counter[int] = Counter()
    for one in slices:
        counts.update(one.counts)
    parts = zip(*([us / one.counts.total() for us in one.used] for one in slices), strict=True)
    return {
        "slices": len(found), "others": max(each.others for each in found),
        "rate": statistics.median(one.rate for one in slices),
        "cpu_us": statistics.median(one.cpu_us for one in slices),
        "rate_ratio": middle([each.rate for each in found]),
        "cpu_us_ratio": middle([each.cpu_us for each in found]),
        **{name: statistics.median(part) for name, part in zip(PARTS, parts, strict=True)},
        **{name: _load.quantile_us(counts, part) for name, part in PERCENTILES.items()},
    }  # fmt: skip


def strangers(stage: Stage) -> list[int]:
    """Ids of programs that run at each event of the stage's connections and are not the stage's:
    those attached above its cgroups. Each of them is a part of what it costs to be called."""
    fd = os.open(stage.cgroups, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return query.attached(fd, SOCK_OPS, effective=True) or []
    finally:
        os.close(fd)


def show(title: str, load: Sequence[dict[str, Any]], base: str) -> None:
    """Two tables for each ``mode``, and how disturbed the run was."""
    for mode in dict.fromkeys(each["mode"] for each in load):
        rows = [each for each in load if each["mode"] == mode]
        columns = ["way", "open", "per s", f"x {base}", "19 of 20", "p50 us", "p99 us", "slices"]
        harness.show(f"{title}: {mode}", columns, [_rates(each) for each in rows])
        columns = ["way", "open", "CPU us", f"x {base}", "19 of 20", "client", "server", "agent"]
        harness.show(f"{title}: CPU of {mode}", columns, [_costs(each) for each in rows])
    print(f"others used up to {max(each['others'] for each in load):.2f} CPUs meanwhile")


def _name(one: dict[str, Any]) -> list[str]:
    return [one["way"], str(one["connections"])]


def shown(found: dict[str, float]) -> list[str]:
    """A median and its bounds."""
    return [f"{found['median']:.3f}", f"{found['low']:.3f}-{found['high']:.3f}"]


def _rates(one: dict[str, Any]) -> list[str]:
    last = [f"{one['p50_us']:.1f}", f"{one['p99_us']:.1f}", str(one["slices"])]
    return [*_name(one), f"{one['rate']:,.0f}", *shown(one["rate_ratio"]), *last]


def _costs(one: dict[str, Any]) -> list[str]:
    parts = [f"{one[part]:.1f}" for part in PARTS]
    return [*_name(one), f"{one['cpu_us']:.1f}", *shown(one["cpu_us_ratio"]), *parts]
