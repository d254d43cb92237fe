from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.core.backoff import CAP, FIRST, Backoff


def test_ceiling_doubles_to_the_cap() -> None:
    backoff, ceilings = Backoff(), []
    for _ in range(13):
        ceilings.append(backoff.ceiling)
        _, backoff = backoff.wait(0.5)
    assert ceilings[:4] == [0.010, 0.020, 0.040, 0.080]
    assert ceilings[-1] == ceilings[-2] == CAP


@given(random=st.floats(0, 1, exclude_max=True), attempts=st.integers(0, 40))
def test_waits_are_drawn_from_the_whole_interval(random: float, attempts: int) -> None:
    backoff = Backoff()
    for _ in range(attempts):
        _, backoff = backoff.wait(0.0)
    seconds, _ = backoff.wait(random)
    assert seconds == backoff.ceiling * random
    assert seconds <= CAP


@pytest.mark.parametrize(
    ("lived", "answered", "resets"),
    [(CAP, True, True), (1e6, True, True), (CAP - 0.1, True, False), (1e6, False, False)],
)
def test_only_a_healthy_stream_starts_the_series_again(
    lived: float, answered: bool, resets: bool
) -> None:
    tired = Backoff(ceiling=4.0)
    assert tired.ended(lived, answered).ceiling == (FIRST if resets else 4.0)
