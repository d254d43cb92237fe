"""The object files on their way into the kernel; nothing is attached here."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from kmesh.bpf import lib
from kmesh.bpf.objects import CGROUP, OBJECTS, Object
from kmesh.bpf.verifier import relevant, why
from kmesh.errors import ProgramRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)


def load(
    existing: dict[str, int], entries: dict[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """(maps, programs) as new fds, using existing maps and sizing the others; nothing is attached.

    Raises ProgramRefused with the verifier's last lines.
    """
    try:
        return _load(existing, entries, explain=False)
    except ProgramRefused:
        return _load(existing, entries, explain=True)


def _load(
    existing: dict[str, int], entries: dict[str, int], *, explain: bool
) -> tuple[dict[str, int], dict[str, int]]:
    maps: dict[str, int] = {}
    programs: dict[str, int] = {}
    try:
        for one in OBJECTS:
            try:
                _load_one(one, existing, entries, maps, programs, explain=explain)
            except ProgramRefused as error:
                if not one.without:
                    raise
                log.warning("%s: %s", one.without, why(error.sentence))
    except BaseException:
        close(maps.values())
        close(programs.values())
        raise
    return maps, programs


def _load_one(
    one: Object,
    existing: dict[str, int],
    entries: dict[str, int],
    maps: dict[str, int],
    programs: dict[str, int],
    *,
    explain: bool,
) -> None:
    """Load an object and add its maps and programs to those of the objects before it."""
    object_ = lib.Object(one.path)
    try:
        for name in one.maps:
            if (fd := maps.get(name, existing.get(name))) is not None:
                object_.reuse(name, fd)
            elif name in entries:
                object_.resize(name, entries[name])
        if one.sets_errno:
            precise = lib.helper_allowed(CGROUP["connect4"], lib.SET_RETVAL)
            object_.set_read_only(bytes([precise]))
        if explain:
            object_.explain([program.name for program in one.programs])
        errno, text = object_.load()
        if errno:
            raise ProgramRefused(f"the kernel refused the programs\n{relevant(text)}\n", errno)
        maps |= {name: object_.map_fd(name) for name in one.maps if name not in maps}
        programs |= {each.name: object_.program_fd(each.name) for each in one.programs}
    finally:
        object_.close()


def close(fds: Iterable[int]) -> None:
    """Close file descriptors."""
    for fd in fds:
        os.close(fd)
