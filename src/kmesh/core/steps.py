"""Long work in steps: a generator that yields after every few microseconds of work and returns the
result. Whoever takes the steps looks at a clock between them; here there is none."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]
Enough = Callable[[], bool]
"""Whether the time of this turn is used up."""


def never() -> bool:
    """Enough for those who have all the time there is."""
    return False


def finish(steps: Steps[T]) -> T:
    """All steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def advance(steps: Steps[T], enough: Enough) -> tuple[bool, T | None]:
    """Steps until there is enough, one at least: (whether it is done, the result)."""
    try:
        next(steps)
        while not enough():
            next(steps)
    except StopIteration as end:
        return True, end.value
    return False, None
