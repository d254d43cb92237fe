"""Asking an agent again for a while: for scripts that start one, or give it time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from kmesh.cli.client import AgentAway

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

POLL = 0.2  # seconds
T = TypeVar("T")


def add_option(parser: argparse.ArgumentParser, text: str) -> None:
    """``--wait SECONDS``."""
    parser.add_argument("--wait", type=seconds, default=0.0, metavar="SECONDS", help=text)


def seconds(text: str) -> float:
    """A number of seconds from 0 to a day; raises ValueError."""
    number = float(text)
    if not 0 <= number <= 86400:
        raise ValueError("between 0 and 86400")
    return number


def settled(ask: Callable[[], T], well: Callable[[T], bool], wait: float) -> T:
    """The answer now, or the first that is well within ``wait`` seconds, also when no agent answers
    at first; raises what ``ask`` does."""
    deadline = time.monotonic() + wait
    while True:
        last = time.monotonic() >= deadline
        try:
            found = ask()
        except AgentAway:
            if last:
                raise
        else:
            if last or well(found):
                return found
        time.sleep(POLL)
