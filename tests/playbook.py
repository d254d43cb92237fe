"""Scripts for pure cores: ``>>`` feeds an event, ``<<`` expects the next command.

    assert Playbook(handle) >> event << command << command >> event

``handle(event)`` returns the commands. Everything a step produces must be expected, in order;
a mismatch raises AssertionError with a diff of the script against what happened.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

E = TypeVar("E")
C = TypeVar("C")


class Playbook(Generic[E, C]):
    """A script; runs when it is asserted (``bool``), from the first step, once."""

    def __init__(self, handle: Callable[[E], Iterable[C]]) -> None:
        self._handle = handle
        self._events: list[E] = []
        self._expected: list[list[C]] = []

    def __rshift__(self, event: E) -> Playbook[E, C]:
        self._events.append(event)
        self._expected.append([])
        return self

    def __lshift__(self, command: C) -> Playbook[E, C]:
        assert self._expected, "a script starts with an event"
        self._expected[-1].append(command)
        return self

    def __bool__(self) -> bool:
        wanted: list[str] = []
        got: list[str] = []
        matches = True
        for event, expected in zip(self._events, self._expected, strict=True):
            produced = list(self._handle(event))
            wanted += [f">> {event!r}", *(f"<< {command!r}" for command in expected)]
            got += [f">> {event!r}", *(f"<< {command!r}" for command in produced)]
            matches = matches and produced == expected
        if not matches:
            diff = difflib.unified_diff(wanted, got, "script", "what happened", lineterm="", n=99)
            raise AssertionError("\n" + "\n".join(diff))
        return True
