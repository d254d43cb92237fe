"""Long work in steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kmesh.core.steps import advance, finish, never

if TYPE_CHECKING:
    from kmesh.core.steps import Steps


def work(count: int, done: list[int]) -> Steps[str]:
    for i in range(count):
        done.append(i)
        yield
    return "result"


def test_all_at_once() -> None:
    done: list[int] = []
    assert finish(work(3, done)) == "result"
    assert done == [0, 1, 2]


def test_a_step_at_least_and_no_more_than_enough() -> None:
    done: list[int] = []
    steps = work(3, done)
    assert advance(steps, lambda: True) == (False, None)
    assert done == [0]
    assert advance(steps, lambda: len(done) == 3) == (False, None)
    assert done == [0, 1, 2]
    assert advance(steps, never) == (True, "result")


def test_what_goes_wrong_is_raised() -> None:
    def wrong() -> Steps[None]:
        yield
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        advance(wrong(), never)
