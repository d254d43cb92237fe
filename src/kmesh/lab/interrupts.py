"""Signals that end a long job at a moment when it can be undone."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked to stop; the text is the signal's name."""


class Interrupts:
    """Turns signals into Interrupted, but not inside :meth:`held`, where they wait.

    The mask of blocked signals is left alone: child processes would inherit it.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._waiting: str | None = None

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Handle the signals inside the block."""
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do the block whole; a signal that came meanwhile is raised at its end."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth and self._waiting is not None:
                name, self._waiting = self._waiting, None
                raise Interrupted(name)

    def _handle(self, number: int, frame: object) -> None:
        name = signal.Signals(number).name
        if not self._depth:
            raise Interrupted(name)
        self._waiting = self._waiting or name
