"""Contenders between slices of direct: the order, what is compared, and against whom."""

from __future__ import annotations

import random
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

import pytest

from benchmarks._turns import Cell
from benchmarks.mesh import beside
from benchmarks.mesh.beside import AGAIN, DIRECT, OURS, Seen, Slice

if TYPE_CHECKING:
    from collections.abc import Mapping

NODE = "envoy-node"
NAMES = (OURS, "nft", NODE, AGAIN)


def order(cycles: int) -> list[tuple[int, str]]:
    return list(beside.order(NAMES, cycles, random.Random(1)))


def test_everybody_is_once_in_a_cycle_in_another_order_each_time() -> None:
    ways = order(30)
    assert [cycle for cycle, _ in ways] == sorted(4 * list(range(30)))
    orders = {tuple(name for at, name in ways if at == cycle) for cycle in range(30)}
    assert {frozenset(one) for one in orders} == {frozenset(NAMES)}
    assert len(orders) > 4


def seen(
    rates: Mapping[str, float], cycles: int = 12, drift: float = 0.0, failing: str = ""
) -> list[Seen]:
    """Slices at rates against direct while the machine gets faster with each of them."""
    at = count()

    def measure(name: str) -> Slice:
        speed = 1000 + drift * next(at)
        rate = speed * rates.get(name, 1.0)
        numbers = {"rate": rate, "cpu_us": 10 / rates.get(name, 1.0)}
        cell = None if name == failing else Cell(numbers, Counter({100: 1}))
        return Slice(cell, 0.1, 0.0)

    return list(beside.between(iter(order(cycles)), measure))


def test_a_drift_is_not_in_the_ratios() -> None:
    found = {row["way"]: row for row in
             beside.rows(seen({OURS: 0.9, NODE: 0.25}, drift=10), (DIRECT, *NAMES))}  # fmt: skip
    for name, ratio in ((DIRECT, 1.0), (OURS, 0.9), (AGAIN, 1.0), (NODE, 0.25)):
        for bound in ("low", "median", "high"):
            assert found[name]["rate_ratio"][bound] == pytest.approx(ratio)
    assert found[OURS]["cpu_us_ratio"]["median"] == pytest.approx(1 / 0.9)
    assert (found[OURS]["turns"], found[NODE]["turns"]) == (12, 12)
    assert found[OURS]["samples"] == 12


def test_ours_and_direct_are_compared_with_a_proxy_too() -> None:
    found = {row["way"]: row for row in
             beside.rows(seen({OURS: 0.9, NODE: 0.25}, drift=10), (DIRECT, *NAMES))}  # fmt: skip
    against = {way: row["against"] for way, row in found.items() if "against" in row}
    assert set(against) == {DIRECT, OURS}
    assert set(against[OURS]) == {NODE}  # the other one was not there
    ours, direct = against[OURS][NODE], against[DIRECT][NODE]
    assert ours["rate_ratio"]["median"] == pytest.approx(3.6)
    assert ours["cpu_us_ratio"]["median"] == pytest.approx(1 / 3.6)
    assert direct["rate_ratio"]["median"] == pytest.approx(4.0)
    assert ours["rate_ratio"]["values"] == 12


def test_direct_alone_is_a_run_too() -> None:
    slice_ = Slice(Cell({"rate": 1.0, "cpu_us": 1.0}, Counter()), 0.1, 0.0)
    found = list(beside.between(iter(()), lambda _: slice_))
    assert [row["way"] for row in beside.rows(found, (DIRECT,))] == [DIRECT]


def test_what_fails_is_left_out_alone() -> None:
    found = [row["way"] for row in beside.rows(seen({}, failing=NODE), (DIRECT, *NAMES))]
    assert found == [DIRECT, OURS, "nft", AGAIN]


def test_slices_that_others_disturbed_do_not_count() -> None:
    at = count()

    def measure(name: str) -> Slice:
        loud = next(at) >= 12
        rate = 500.0 if loud and name == OURS else 1000.0
        return Slice(Cell({"rate": rate, "cpu_us": 1.0}, Counter()), 0.1, 0.05 if loud else 0.0)

    found = list(beside.between(iter(order(30)), measure))
    [row] = beside.rows(found, (OURS,))
    assert 10 <= row["turns"] <= 11
    assert sum(one.way == OURS for one in found) == 30
