"""Load from one or several clients at once, and what they found. See load.c."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from benchmarks._stage import Failed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks._stage import Place, Stage

SUB_BUCKETS = 128
Histogram = Counter[int]
"""Bucket of load.c to requests."""


class Load(NamedTuple):
    """What one client does, as the arguments of load.c; ``qps`` 0 is as fast as it can."""

    kind: str
    connections: int
    ms: int
    targets: str = ""
    sizes: tuple[int, ...] = (64,)
    qps: int = 0

    def command(self, program: str) -> list[str]:
        """The program's command line."""
        sizes = ",".join(map(str, self.sizes))
        numbers = [str(self.connections), str(self.ms), sizes, str(self.qps)]
        return [program, self.kind, *numbers, self.targets]


class Found(NamedTuple):
    """What clients found: CPU of the clients in microseconds, latencies as a histogram."""

    operations: int
    lost: int
    bytes: int
    seconds: float
    user_us: float
    system_us: float
    histogram: Histogram

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU of the clients."""
        return self.user_us + self.system_us


def parse(text: str) -> Found:
    """One client's line."""
    found = json.loads(text)
    histogram = Histogram({int(key): count for key, count in found.pop("histogram").items()})
    return Found(**found, histogram=histogram)


def merge(several: Iterable[Found]) -> Found:
    """Clients that worked at the same time, as one."""
    all_of = list(several)
    histogram = Histogram()
    for one in all_of:
        histogram.update(one.histogram)
    return Found(
        sum(one.operations for one in all_of),
        sum(one.lost for one in all_of),
        sum(one.bytes for one in all_of),
        max(one.seconds for one in all_of),
        sum(one.user_us for one in all_of),
        sum(one.system_us for one in all_of),
        histogram,
    )


def bucket_us(bucket: int) -> float:
    """The least microseconds that fall into a bucket."""
    power = max(0, bucket // SUB_BUCKETS - 1)
    return ((bucket - power * SUB_BUCKETS) << power) / 1000


def quantile_us(histogram: Mapping[int, int], part: float) -> float:
    """The microseconds that a ``part`` (0 to 1) of the requests did not exceed, to 1 %.

    Raises ValueError without requests.
    """
    rank, before = part * sum(histogram.values()), 0
    for bucket in sorted(histogram):
        before += histogram[bucket]
        if before >= rank:
            return bucket_us(bucket)
    raise ValueError("no requests")


def run(stage: Stage, place: Place, load: Load) -> Found:
    """One client to its end. Raises Failed."""
    return collect(stage, start(stage, place, load))


def together(stage: Stage, clients: Sequence[tuple[Place, Load]]) -> list[Found]:
    """Several clients at once. Raises Failed when one of them fails."""
    running = [start(stage, place, load) for place, load in clients]
    return [collect(stage, one) for one in running]


def start(stage: Stage, place: Place, load: Load) -> subprocess.Popen[str]:
    """A client on its way."""
    return stage.start(load.command(stage.load), place)


def collect(stage: Stage, process: subprocess.Popen[str]) -> Found:
    """What it found in the end. Raises Failed with its last words."""
    output, _ = process.communicate()
    if process.returncode:
        raise Failed(f"load: {stage.last_words(process) or process.returncode}")
    return parse(output)
