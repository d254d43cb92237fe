"""Requests on open connections: a VIP's against those to the same servers by their addresses.

One client makes both kinds, in the same namespace, and asks on them by turns of a millisecond or
two, so that noise meets both alike; see established.c. That it is enrolled costs neither kind
anything: no program of kmesh runs for a packet.
"""

from __future__ import annotations

import json
import math
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks import harness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._stage import Place, Stage

REQUESTS = {1: 24, 100: 200}
"""Requests at once to the requests of a burst: a millisecond or two of work."""
TURNS = 200
SURE = 1.96  # standard errors on each side hold 95 of 100 means


def measure(stage: Stage, place: Place, vip: str, clients: int) -> list[dict[str, Any]]:
    """For each number of connections the rate of the VIP's (and of a second set of direct ones)
    against direct ones, from so many ``clients`` one after the other, each with connections of its
    own. Raises Failed."""
    program = stage.compile("established")
    rows = []
    for connections, requests in REQUESTS.items():
        command = [program, str(connections), str(TURNS), str(requests), vip]
        found = [json.loads(stage.run(command, place))["ns"] for _ in range(clients)]
        for way, index in (("kmesh", 0), ("direct 2", 2)):
            ratios = [_ratio(turns, index) for turns in found]
            head = {"connections": connections, "way": way, "bursts": clients * TURNS}
            rows.append(head | interval(ratios))
    return rows


def _ratio(turns: Sequence[Sequence[int]], way: int) -> float:
    """The rate of one way against direct: the median over one client's turns."""
    return statistics.median(turn[1] / turn[way] for turn in turns)


def interval(ratios: Sequence[float]) -> dict[str, float]:
    """Their mean and the 95 % interval of it."""
    mean = statistics.fmean(ratios)
    off = SURE * statistics.stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else 0.0
    return {"mean": mean, "low": mean - off, "high": mean + off}


def show(rows: Sequence[dict[str, Any]]) -> None:
    """A table to standard output."""
    columns = ["way", "open", "rate x direct", "95 %", "bursts"]
    cells = [
        [one["way"], one["connections"], f"{one['mean']:.3f}",
         f"{one['low']:.3f}-{one['high']:.3f}", one["bursts"]]
        for one in rows
    ]  # fmt: skip
    harness.show("connect: requests on open connections, by turns", columns, cells)
