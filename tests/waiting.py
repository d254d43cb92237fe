"""Waiting for what tells nobody: look until it holds. There is no other way to wait in a test."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

SLOW = float(os.environ.get("KMESH_TEST_SLOW", "1"))  # emulated machines need more patience
PATIENCE = 30.0 * SLOW  # seconds; only a failure takes them
POLL = 0.01


def until(
    holds: Callable[[], object],
    what: Callable[[], object] = lambda: "waited in vain",
    within: float = PATIENCE,
) -> None:
    """Look until it holds; raises AssertionError with ``what()`` after so many seconds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(POLL)


async def eventually(holds: Callable[[], object]) -> None:
    """The same in a task; raises TimeoutError."""
    with anyio.fail_after(PATIENCE):
        while not holds():  # noqa: ASYNC110 see above
            await anyio.sleep(POLL)
