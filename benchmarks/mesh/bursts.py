"""Ours against direct in bursts of a few milliseconds, by turns: what is too near for slices.

A client for each way opens its connections and waits; then one after the other makes a burst, in
another order each time, and says how long it took (see load.c). Noise that lasts longer than some
bursts is in all of them alike. Connections alike in all else may differ by some percent for as long
as they live, so they are opened many times: an opening gives one ratio, the median of its turns.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from benchmarks._stage import Failed, end, settle
from benchmarks._sure import middle
from benchmarks._turns import Cell, Turn, foreign_s, kept
from benchmarks.mesh.beside import AGAIN, DIRECT, OURS

if TYPE_CHECKING:
    import random
    import subprocess
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks._stage import Stage
    from benchmarks._turns import Way
    from benchmarks.mesh.scenarios import Case

WAYS = (DIRECT, OURS, AGAIN)


def opening(
    stage: Stage, ways: Mapping[str, Way], case: Case, seconds: float, dice: random.Random
) -> Turn:
    """Turns of all ways for some seconds on connections of their own. Raises Failed."""
    load = case.loads[0]._replace(connections=sum(one.connections for one in case.loads), ms=0)
    with ExitStack() as stack:
        clients = {}
        for name, way in ways.items():
            command = load._replace(targets=way.targets).command(stage.load)
            clients[name] = stage.start(command, way.clients[0], wait=True)
            stack.callback(end, clients[name])
        settle([way.servers for way in ways.values()])

        def burst(name: str) -> float:
            return _burst(stage, clients[name], case.burst)

        start, busy = time.monotonic(), foreign_s(stage)
        turns = by_turns(burst, list(ways), lambda: time.monotonic() - start < seconds, dice)
        others = (foreign_s(stage) - busy) / (time.monotonic() - start)
    cells = {name: Cell({"rate": rate}, Counter()) for name, rate in rates(turns).items()}
    return Turn(cells, others)


def _burst(stage: Stage, client: subprocess.Popen[str], requests: int) -> float:
    assert client.stdin is not None
    assert client.stdout is not None
    try:
        client.stdin.write(f"{requests}\n")
        client.stdin.flush()
        return float(client.stdout.readline())
    except (BrokenPipeError, ValueError):
        raise Failed(f"load: {stage.last_words(client)}") from None


def by_turns(
    burst: Callable[[str], float],
    names: Sequence[str],
    more: Callable[[], bool],
    dice: random.Random,
) -> list[dict[str, float]]:
    """What each took, turn by turn, after one that does not count; at least one that does."""
    found: list[dict[str, float]] = []
    while len(found) < 2 or more():
        found.append({name: burst(name) for name in dice.sample(names, len(names))})
    return found[1:]


def rates(turns: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each way's rate against direct of the same turn."""
    return {name: statistics.median(turn[DIRECT] / turn[name] for turn in turns)
            for name in turns[0]}  # fmt: skip


def rows(openings: Mapping[Case, Sequence[Turn]]) -> list[dict[str, Any]]:
    """One row for each case and way but direct, of the openings with little else going on."""
    found = []
    for case, turns in openings.items():
        calm = kept(turns)
        for name in calm[0].cells:
            if name == DIRECT:
                continue
            ratio = middle([turn.cells[name].numbers["rate"] for turn in calm])
            others = max(turn.others for turn in calm)
            found.append({"scenario": case.scenario, "case": case.name, "way": name,
                          "rate_ratio": ratio, "others": others})  # fmt: skip
    return found
