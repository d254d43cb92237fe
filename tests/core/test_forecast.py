"""When a table is full."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from kmesh.core.forecast import SPAN, STEP, Forecast


def test_steady_growth_is_seen() -> None:
    forecast = Forecast()
    for minute in range(10):
        forecast.note(minute * STEP, 100 + 6 * minute)
    assert round(forecast.full_in(214)) == 10 * STEP


def test_without_growth_it_is_never_full() -> None:
    forecast = Forecast()
    assert forecast.full_in(10) == inf
    forecast.note(0, 5)
    assert forecast.full_in(10) == inf, "one sample has no direction"
    forecast.note(STEP, 5)
    assert forecast.full_in(10) == inf
    forecast.note(2 * STEP, 4)
    assert forecast.full_in(10) == inf


def test_what_is_full_is_full_now() -> None:
    forecast = Forecast()
    forecast.note(0, 10)
    assert forecast.full_in(10) == 0


def test_what_was_long_ago_does_not_count() -> None:
    forecast = Forecast()
    forecast.note(0, 0)
    forecast.note(STEP, 1000)
    forecast.note(STEP + SPAN + 1, 1000)
    assert forecast.full_in(2000) == inf


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=100), st.integers(0, 2000))
def test_it_is_never_negative(fills: list[int], limit: int) -> None:
    forecast = Forecast()
    for minute, fill in enumerate(fills):
        forecast.note(minute * STEP, fill)
    assert forecast.full_in(limit) >= 0
