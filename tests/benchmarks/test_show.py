"""What a run does with slices that fail."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks._stage import Failed, Stage
from benchmarks._turns import Cell, Way
from benchmarks.mesh import run, tools
from benchmarks.mesh.beside import DIRECT, OURS
from benchmarks.mesh.contend import Contender, Facts, Options
from benchmarks.mesh.run import STUMBLES, Show
from benchmarks.mesh.scenarios import QUICK, Case
from benchmarks.mesh.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable

CASE = Case("http", "nobody's", tool="none")
ROUNDS = 6


def show(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str, int], bool]) -> Show:
    """Direct and ours; a slice of a way by its number ``fails`` or costs nothing."""
    asked = Counter[str]()

    def measure(stage: Stage, way: Way, tool: str) -> Cell:
        asked[way.name] += 1
        if fails(way.name, asked[way.name]):
            raise Failed("nobody answers")
        return Cell({"rate": 1.0, "cpu_us": 1.0}, Counter())

    monkeypatch.setattr(tools, "measure", measure)
    monkeypatch.setattr(run, "foreign_s", lambda _: 0.0)
    made = Show(Stage(), QUICK._replace(rounds=ROUNDS, tool_rounds=ROUNDS), Options(0, 0))
    for name in (DIRECT, OURS):
        site = Site(name, Path("/cgroup"), (), ())
        made.contenders[name] = Contender(site, lambda _: "x", (), Facts(*"abcde"))
    return made


def turns(made: Show) -> dict[str, int]:
    """Slices that count by way."""
    found = run.rows(made.turns([CASE]), [DIRECT, OURS])
    return {row["way"]: row["turns"] for row in found}


def test_all_rounds_count(monkeypatch: pytest.MonkeyPatch) -> None:
    made = show(monkeypatch, lambda *_: False)
    assert turns(made) == {DIRECT: 2 * ROUNDS, OURS: ROUNDS}
    assert made.failed == {}


def test_a_contender_that_fails_once_is_out_of_the_case(monkeypatch: pytest.MonkeyPatch) -> None:
    made = show(monkeypatch, lambda name, number: name == OURS and number == 3)
    assert turns(made) == {DIRECT: 2 + 2 + 2 + 3, OURS: 2}
    assert made.failed == {(OURS, CASE): "nobody answers"}


def test_direct_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what was beside the slice that failed has nothing to be compared with."""
    made = show(monkeypatch, lambda name, number: name == DIRECT and number == 2)
    assert turns(made) == {DIRECT: 2 * ROUNDS - 1, OURS: ROUNDS - 1}
    assert made.failed == {(DIRECT, CASE): "nobody answers"}


def test_without_direct_there_is_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Counter[str]()

    def fails(name: str, number: int) -> bool:
        asked[name] = number
        return name == DIRECT

    made = show(monkeypatch, fails)
    with pytest.raises(Failed, match="nobody answers"):
        turns(made)
    assert asked[DIRECT] == STUMBLES + 1
