"""Slices beside each other: what is compared, and what is concluded."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks._between import Slice, compared
from benchmarks._stage import Failed
from benchmarks._sure import MET, MISSED, OPEN, middle, verdict, verdict_most, worst

CYCLE = ("off", "metrics", "off 2", "access log")


def slices(rates: list[int], others: float = 0.0) -> list[Slice]:
    """A second each; a connection costs 10 us."""
    return [
        Slice(CYCLE[at % 4], 1.0, Counter({7: rate} if rate else {}), (10.0 * rate,), others)
        for at, rate in enumerate(rates)
    ]


def test_a_drift_is_not_in_the_ratio() -> None:
    found = slices([1000 + 10 * at for at in range(40)])
    for way, reach in (("metrics", 1), ("access log", 1), ("off 2", 2)):
        ratios = [each.rate for each in compared(found, way, reach)]
        assert ratios == pytest.approx([1.0] * len(ratios))


def test_what_a_way_costs_is() -> None:
    found = compared(slices([1000, 900, 1000, 500] * 10), "metrics", 1)
    assert len(found) == 10
    assert {each.rate for each in found} == {0.9}
    assert {each.cpu_us for each in found} == {1.0}


def test_slices_during_which_somebody_else_ran_are_left_out_but_a_third() -> None:
    quiet, loud = slices([1000, 900] * 10), slices([1000, 100] * 10, others=0.5)
    assert {round(each.rate, 6) for each in compared(quiet + loud, "metrics", 1)} == {0.9}
    assert len(compared(loud, "metrics", 1)) == 2


def test_a_slice_without_an_answer_compares_nothing() -> None:
    found = compared(slices([1000, 0, 1000, 900, 0, 900, 1000, 900, 1000, 900, 1000]), "metrics", 1)
    assert [each.rate for each in found] == [0.9]
    with pytest.raises(Failed, match="metrics"):
        compared(slices([1000, 0, 1000]), "metrics", 1)


@pytest.mark.parametrize(
    ("values", "said"),
    [([0.98] * 50, MET), ([0.96] * 50, MISSED), ([0.95, 0.99] * 25, OPEN)],
)
def test_a_goal_is_open_while_its_bound_is_within_the_noise(values: list[float], said: str) -> None:
    ratio = middle(values)
    assert ratio["low"] <= ratio["median"] <= ratio["high"]
    assert verdict(ratio, 0.97) == said
    costs = middle([2 * 0.97 - value for value in values])
    assert verdict_most(costs, 0.97) == said


def test_few_values_conclude_nothing() -> None:
    assert verdict(middle([2.0] * 5), 1.0) == OPEN
    assert verdict(middle([2.0] * 6), 1.0) == MET
    assert verdict_most(middle([0.5] * 5), 1.0) == OPEN
    assert verdict_most(middle([0.5] * 6), 1.0) == MET


def test_of_several_the_worst_counts() -> None:
    assert worst([MET, OPEN, MISSED]) == MISSED
    assert worst([OPEN, MET]) == OPEN
    assert worst([MET, MET]) == MET


def test_more_slices_are_closer_bounds() -> None:
    few, many = middle([at / 20 for at in range(20)]), middle([at / 2000 for at in range(2000)])
    assert many["high"] - many["low"] < (few["high"] - few["low"]) / 5
