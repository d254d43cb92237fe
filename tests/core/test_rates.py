"""Rates over counters: exact over any window, whatever starts again or comes and goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.core.rates import Counts, Rates

GROWTH = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 9), st.integers(0, 9))),
    min_size=1,
    max_size=12,
)


def sums(rates: Rates[str], window: float = 1e9) -> dict[str, Counts]:
    return {key: counts for key, counts in rates.over(window).counted.items() if any(counts)}


@given(GROWTH)
def test_what_is_counted_is_what_grew_however_it_is_sampled(
    steps: list[dict[str, Counts]],
) -> None:
    often, once = Rates[str](1e6, 100), Rates[str](1e6, 100)
    total: dict[str, Counts] = {}
    often.add(0, total)
    once.add(0, total)
    for time, step in enumerate(steps, 1):
        for key, (a, b) in step.items():
            have = total.get(key, (0, 0))
            total[key] = (have[0] + a, have[1] + b)
        often.add(time, total)
    once.add(len(steps), total)
    grown = {key: counts for key, counts in total.items() if any(counts)}
    assert sums(often) == sums(once) == grown
    assert often.over(1e9).seconds == once.over(1e9).seconds == len(steps)


@given(GROWTH, st.integers(1, 12))
def test_a_row_that_starts_again_counts_from_zero_and_never_negative(
    steps: list[dict[str, Counts]], again: int
) -> None:
    rates = Rates[str](1e6, 100)
    total: dict[str, Counts] = {"a": (1000, 1000)}
    rates.add(0, total)
    for time, step in enumerate(steps, 1):
        if time == again:
            total = {}
        for key, (x, y) in step.items():
            have = total.get(key, (0, 0))
            total[key] = (have[0] + x, have[1] + y)
        rates.add(time, total)
    for counts in rates.over(1e9).counted.values():
        assert min(counts) >= 0
        assert max(counts) <= 9 * len(steps)


def test_the_window_is_the_shortest_that_covers_what_was_asked() -> None:
    rates = Rates[str]()
    for time in range(11):
        rates.add(float(time), {"a": (time * 10,)})
    assert rates.over(3.0) == (3.0, {"a": (30,)})
    assert rates.over(2.5) == (3.0, {"a": (30,)})
    assert rates.over(0.1) == (1.0, {"a": (10,)})
    assert rates.over(99.0) == (10.0, {"a": (100,)})
    assert rates.over(3.0).per_second("a", 0) == pytest.approx(10.0)
    assert rates.over(3.0).per_second("b", 0) == 0.0


def test_one_sample_says_nothing() -> None:
    rates = Rates[str]()
    assert rates.over(5.0) == (None, {})
    rates.add(1.0, {"a": (5,)})
    assert rates.over(5.0) == (None, {})
    assert rates.over(5.0).per_second("a", 0) is None


def test_after_a_pause_longer_than_what_is_kept_it_begins_again() -> None:
    rates = Rates[str](keep=60.0)
    rates.add(0.0, {"a": (5,)})
    rates.add(100.0, {"a": (5000,)})
    assert rates.over(5.0) == (None, {})
    rates.add(101.0, {"a": (5010,)})
    assert rates.over(5.0) == (1.0, {"a": (10,)})


def test_what_is_kept_is_bounded() -> None:
    rates = Rates[str](keep=60.0, most=10)
    for time in range(1000):
        rates.add(time / 100, {"a": (time,)})
    seconds, counted = rates.over(1e9)
    assert seconds == pytest.approx(0.09)
    assert counted == {"a": (9,)}


def test_a_sample_that_is_not_later_is_ignored() -> None:
    rates = Rates[str]()
    rates.add(1.0, {"a": (5,)})
    rates.add(1.0, {"a": (50,)})
    rates.add(2.0, {"a": (7,)})
    assert rates.over(1.0) == (1.0, {"a": (2,)})
    assert rates.latest() == 2.0


def test_a_row_that_vanished_and_came_back_is_new() -> None:
    rates = Rates[str]()
    rates.add(1.0, {"a": (5,), "b": (1,)})
    rates.add(2.0, {"b": (1,)})
    rates.add(3.0, {"a": (2,), "b": (1,)})
    assert rates.over(10.0) == (2.0, {"a": (2,)})
