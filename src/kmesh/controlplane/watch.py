"""A mesh file that may be edited at any time: only whole, settled, valid content comes out.

In-place edits and atomic renames are seen alike, by content. A file is read only after its status
stayed the same for one interval, because an editor may be half-way through writing it.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from kmesh.controlplane.file import parse
from kmesh.errors import MeshFileError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kmesh.controlplane.mesh import Mesh

INTERVAL = 0.1  # seconds
# Two writes within one tick of the file system's clock leave equal times: read a young file again.
YOUNG_NS = 2_000_000_000


class Edit(NamedTuple):
    """What an edit did: a new mesh, or an error while the last good state stays in force."""

    mesh: Mesh | None
    error: MeshFileError | None = None


class Stamp(NamedTuple):
    """What tells one version of a file from another without reading it."""

    inode: int
    size: int
    mtime_ns: int


class FileWatch:
    """Looks at one file when told to; ``last`` is the content that is in force already."""

    def __init__(self, path: Path, last: bytes) -> None:
        self._path = path
        self._seen: bytes | None = last
        self._stamp: Stamp | None = None
        self._pending: bytes | None = None
        self._shown = ""

    def poll(self, now_ns: int) -> Edit | None:
        """One look (blocking); ``now_ns`` is the wall clock. None when nothing new is settled."""
        try:
            status = os.stat(self._path)
            stamp = Stamp(status.st_ino, status.st_size, status.st_mtime_ns)
            young = now_ns - stamp.mtime_ns < YOUNG_NS
            if stamp == self._stamp and self._pending is None and not young:
                return None
            data = self._path.read_bytes()
        except OSError as error:
            self._stamp = self._pending = self._seen = None
            return self._failed(MeshFileError(f"{self._path}: {error.strerror}"))
        self._stamp = stamp
        if data == self._seen:
            self._pending = None
            return None
        if data != self._pending:
            self._pending = data
            return None
        self._pending, self._seen = None, data
        return self._parsed(data)

    def _parsed(self, data: bytes) -> Edit | None:
        try:
            mesh = parse(data, str(self._path))
        except MeshFileError as error:
            return self._failed(error)
        self._shown = ""
        return Edit(mesh)

    def _failed(self, error: MeshFileError) -> Edit | None:
        if error.sentence == self._shown:
            return None
        self._shown = error.sentence
        return Edit(None, error)


async def edits(path: Path, last: bytes, interval: float = INTERVAL) -> AsyncIterator[Edit]:
    """Every settled edit of the file, for ever; looks each ``interval`` seconds."""
    watch = FileWatch(path, last)
    while True:
        await asyncio.sleep(interval)
        edit = await asyncio.to_thread(_look, watch)
        if edit is not None:
            yield edit


def _look(watch: FileWatch) -> Edit | None:
    return watch.poll(time.time_ns())
