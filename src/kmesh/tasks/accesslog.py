"""The access log: lines are written by a thread of their own, so that no disk holds the loop up.

What the thread cannot write in time is dropped and counted; the loop never waits for it.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from threading import Condition, Thread
from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.accesslog import json_line, text_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kmesh.core.accesslog import Entry

log = logging.getLogger(__name__)

ROOM = 10_000  # entries, as many as ztunnel keeps
LINES = 512  # in one write
LAST_LINES = 2.0  # seconds for what is queued when the agent ends
STDOUT = 1


class LogStatistics(NamedTuple):
    """Lines since start: written, dropped because the queue was full, and those that a sink could
    not take; ``waiting`` now, and files that were rotated away."""

    written: int
    dropped: int
    failed: int
    waiting: int
    rotated: int


class Descriptor:
    """A sink that is open already, as standard output."""

    rotated = 0

    def __init__(self, fd: int = STDOUT) -> None:
        self._fd = fd

    def write(self, data: bytes) -> None:
        """All of it, however long that takes. Raises OSError."""
        write_all(self._fd, data)

    def close(self) -> None:
        """It is somebody else's."""


class RotatingFile:
    """A file that is renamed to ``.1``, ``.2``, ... when it is full; what another program renames
    or removes is made anew."""

    def __init__(self, path: Path, size: int, kept: int) -> None:
        """``size`` in bytes, ``kept`` older files."""
        self._path, self._size, self._kept = path, size, kept
        self._fd = -1
        self.rotated = 0

    def write(self, data: bytes) -> None:
        """Append all or nothing: a full disk must not leave half a line. Raises OSError."""
        self._follow()
        size = os.fstat(self._fd).st_size
        if size and size + len(data) > self._size:
            self._rotate()
            size = 0
        try:
            write_all(self._fd, data)
        except OSError:
            os.ftruncate(self._fd, size)
            raise

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _follow(self) -> None:
        if self._fd >= 0:
            try:
                there = os.stat(self._path)
            except FileNotFoundError:
                self.close()
            else:
                if (there.st_dev, there.st_ino) != _identity(self._fd):
                    self.close()
        if self._fd < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o640)

    def _rotate(self) -> None:
        self.close()
        for number in range(self._kept, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else None
            source = newer or self._path
            if source.exists():
                os.replace(source, older)
        if not self._kept:
            self._path.unlink()
        self.rotated += 1
        self._follow()


class LogWriter:
    """Takes entries on the loop, writes lines in a thread that ``start`` begins."""

    def __init__(self, sinks: Iterable[Descriptor | RotatingFile], form: str) -> None:
        self._sinks = list(sinks)
        self._line = json_line if form == "json" else text_line
        self._queue: deque[Entry] = deque()
        self._changed = Condition()
        self._ending = False
        self._thread: Thread | None = None
        self._written = self._dropped = self._failed = 0
        self._complained = False
        self._second, self._stamp = -1, ""

    def start(self) -> None:
        """Write from now on."""
        self._thread = Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def put(self, entries: Iterable[Entry]) -> None:
        """Queue lines; never waits for more than a moment."""
        with self._changed:
            for entry in entries:
                if len(self._queue) >= ROOM:
                    self._dropped += 1
                else:
                    self._queue.append(entry)
            self._changed.notify()

    def stop(self) -> None:
        """Write what is queued, for two seconds at most."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(LAST_LINES)
            if self._thread.is_alive():
                log.warning("%d lines of the access log could not be written", len(self._queue))

    def statistics(self) -> LogStatistics:
        """For metrics and dumps."""
        rotated = sum(sink.rotated for sink in self._sinks)
        return LogStatistics(self._written, self._dropped, self._failed, len(self._queue), rotated)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._ending:
                    self._changed.wait()
                count = min(len(self._queue), LINES)
                entries = [self._queue.popleft() for _ in range(count)]
            if not entries:
                break
            self._write(entries)
        for sink in self._sinks:
            sink.close()

    def _write(self, entries: list[Entry]) -> None:
        data = "".join([self._line(entry, self._text(entry.time)) for entry in entries])
        raw = data.encode("utf-8", "backslashreplace")
        for sink in self._sinks:
            try:
                sink.write(raw)
            except OSError as error:
                self._failed += len(entries)
                if not self._complained:
                    log.error("the access log cannot be written: %s", error)
                self._complained = True
            else:
                self._written += len(entries)
                self._complained = False

    def _text(self, nanoseconds: int) -> str:
        """RFC 3339 in UTC with microseconds; the text of a second is made once."""
        second, rest = divmod(nanoseconds, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{rest // 1000:06d}Z"


def write_all(fd: int, data: bytes) -> None:
    """Write everything, in as many calls as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
