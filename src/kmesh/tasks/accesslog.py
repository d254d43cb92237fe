"""The access log: lines are written by a thread of their own, so that no disk holds the loop up.

What the thread cannot write in time is dropped and counted; the loop never waits for it.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from threading import Condition, Thread
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

ROOM = 16 << 20  # bytes that wait, some 40,000 lines
WRITE = 1 << 18  # bytes in one write, if there are so many
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
    """Takes lines on the loop, writes them in a thread that ``start`` begins."""

    def __init__(self, sinks: Iterable[Descriptor | RotatingFile]) -> None:
        self._sinks = list(sinks)
        self._queue: deque[tuple[bytes, int]] = deque()
        self._size = self._lines = 0  # of what waits
        self._changed = Condition()
        self._ending = False
        self._thread: Thread | None = None
        self._written = self._dropped = self._failed = 0
        self._complained = False

    def start(self) -> None:
        """Write from now on."""
        self._thread = Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def put(self, text: bytes, lines: int) -> None:
        """Queue some whole lines; never waits for more than a moment."""
        with self._changed:
            if self._size + len(text) > ROOM:
                self._dropped += lines
                return
            self._queue.append((text, lines))
            self._size += len(text)
            self._lines += lines
            self._changed.notify()

    def stop(self) -> None:
        """Write what is queued, for two seconds at most."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(LAST_LINES)
            if self._thread.is_alive():
                log.warning("%d lines of the access log could not be written", self._lines)

    def statistics(self) -> LogStatistics:
        """For metrics and dumps."""
        rotated = sum(sink.rotated for sink in self._sinks)
        return LogStatistics(self._written, self._dropped, self._failed, self._lines, rotated)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._ending:
                    self._changed.wait()
                texts, lines = self._take()
            if not texts:
                break
            self._write(b"".join(texts), lines)
        for sink in self._sinks:
            sink.close()

    def _take(self) -> tuple[list[bytes], int]:
        """The next write's, at least one text if any waits."""
        texts, size, count = [], 0, 0
        while self._queue and size < WRITE:
            text, lines = self._queue.popleft()
            texts.append(text)
            size += len(text)
            count += lines
        self._size -= size
        self._lines -= count
        return texts, count

    def _write(self, text: bytes, lines: int) -> None:
        for sink in self._sinks:
            try:
                sink.write(text)
            except OSError as error:
                self._failed += lines
                if not self._complained:
                    log.error("the access log cannot be written: %s", error)
                self._complained = True
            else:
                self._written += lines
                self._complained = False


def write_all(fd: int, data: bytes) -> None:
    """Write everything, in as many calls as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
