"""``<run-dir>/state``: what the pinned maps do not tell the next agent.

It follows the kernel and never leads it: it is written after the maps, whole and by renaming, and
what it says of a pod that the maps do not know is not used. Without it, or with one that cannot be
read, the agent starts with what the maps tell; what that was is logged and counted.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NamedTuple, cast

import anyio
import anyio.to_thread
import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from kmesh.core.events import Json

log = logging.getLogger(__name__)

FORMAT = 1
LOOK = 1.0  # seconds between two looks at what is to be kept
LARGEST = 64 << 20
ABSENT, READ, OTHER, DAMAGED = "absent", "read", "other", "damaged"


class StateStatistics(NamedTuple):
    """``found`` when the agent started: absent, read, other (of another build; what is known of it
    is used) or damaged (it is not used); and how often it was written, or could not be."""

    found: str
    written: int
    failed: int


class StateFile:
    """``parts`` are those that were found, by name; what other builds keep there stays."""

    def __init__(self, path: Path) -> None:
        self._path, self._format = path, cast("Json", FORMAT)
        self._sources: dict[str, Callable[[], Json]] = {}
        self._written = self._failed = 0
        self._turn = anyio.Lock()
        self.found = ABSENT
        self.parts: dict[str, Json] = {}
        try:
            self.parts = self._read()
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self.found = DAMAGED
            log.warning("%s is not used: %s", path, error)
            return
        self.found = READ if self._format == FORMAT else OTHER
        if self.found == OTHER:
            log.warning("%s is of another build (format %s)", path, self._format)

    def keep(self, name: str, source: Callable[[], Json]) -> None:
        """From now on this part is what ``source`` says."""
        self._sources[name] = source

    async def run(self) -> None:
        """Write what has changed, until cancelled."""
        try:
            while True:
                await anyio.sleep(LOOK)
                await self.save()
        finally:
            with anyio.CancelScope(shield=True):
                await self.save()

    async def save(self) -> None:
        """Write now if something has changed; what fails is logged and tried again."""
        async with self._turn:
            wanted = {**self.parts, **{name: source() for name, source in self._sources.items()}}
            if wanted != self.parts:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._write, wanted)

    def statistics(self) -> StateStatistics:
        """For metrics and dumps."""
        return StateStatistics(self.found, self._written, self._failed)

    def _read(self) -> dict[str, Json]:
        if self._path.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
        found = orjson.loads(self._path.read_bytes())
        if not isinstance(found, dict) or not isinstance(found.get("parts"), dict):
            raise ValueError("it is not what an agent writes")
        self._format = found.get("format")
        return dict(found["parts"])

    def _write(self, parts: Mapping[str, Json]) -> None:
        next_ = self._path.with_name(self._path.name + ".next")
        try:
            with next_.open("wb") as file:
                file.write(orjson.dumps({"format": FORMAT, "parts": parts}))
                file.flush()
                os.fsync(file.fileno())
            os.replace(next_, self._path)
            self._sync_folder()
        except OSError as error:
            self._failed += 1
            log.error("%s cannot be written, tried again: %s", self._path, error)
            return
        self._written += 1
        self.parts = dict(parts)

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
