"""Taking everything out of the kernel again, and the proof that it is gone.

Nothing else removes: no error path, no stop of the agent. Filters on interfaces (before Linux 6.6)
do not go with their pins, so their namespaces are entered; what is reachable no more went with its
namespace.
"""

from __future__ import annotations

import os
import socket
import time
from errno import EAGAIN
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kmesh.bpf import lib, mounts, query
from kmesh.bpf.netns import NamespaceLinks
from kmesh.bpf.objects import OBJECTS
from kmesh.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# What the agent keeps below its run directory.
STATE = ("state", "state.next", "kmesh.sock")
KINDS = {
    "anon_inode:bpf-map": "map",
    "anon_inode:bpf-prog": "program",
    "anon_inode:bpf-link": "link",
    "anon_inode:bpf_link": "link",
    "anon_inode:[bpf_link]": "link",
}
POLL = 0.02


class Traces(NamedTuple):
    """Ids in the kernel: of programs that are pinned or behind pinned links, and of all maps that
    are pinned or that those programs use."""

    programs: frozenset[int]
    maps: frozenset[int]


class Removed(NamedTuple):
    """Paths that were removed, and what they led to."""

    paths: list[str]
    traces: Traces


def remove(bpffs: str, run_dir: str = "") -> Removed:
    """Remove every pin, links first, and the state in ``run_dir``; raises AlreadyRunning or
    BpfError."""
    root = Path(f"{bpffs}/kmesh")
    try:
        if not mounts.exists(str(root)):
            return Removed(_remove_state(run_dir), Traces(frozenset(), frozenset()))
        lock = mounts.lock(str(root))
        try:
            found, pins = traces(root), _pins(root)
            _leave_namespaces(root)
            _remove_pins(root, pins)
        finally:
            os.close(lock)
        return Removed([*map(str, pins), *_remove_state(run_dir)], found)
    except OSError as error:
        raise BpfError(f"{error.filename}: {error.strerror}", error.errno or 0) from error


def traces(root: Path) -> Traces:
    """What the pins below a folder lead to. Raises BpfError."""
    programs, maps = set[int](), set[int]()
    for pin in _pins(root):
        fd = lib.pinned(str(pin))
        if fd is None:
            continue
        try:
            kind = KINDS.get(os.readlink(f"/proc/self/fd/{fd}"))
            if kind == "map":
                maps.add(lib.map_info(fd).id)
            elif kind == "program":
                programs.add(lib.program_id(fd))
            elif kind == "link":
                programs.add(lib.link_info(fd).program)
        finally:
            os.close(fd)
    for number in programs:
        maps |= set(lib.program_maps(number))
    return Traces(frozenset(programs), frozenset(maps))


def left(
    found: Traces,
    root: Path,
    within: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> list[str]:
    """What is still there after ``within`` seconds, in words; the kernel frees what nobody holds
    a moment later. Raises BpfError."""
    deadline = clock() + within
    while True:
        words = [f"pin {path}" for path in _pins(root)]
        words += [f"program {number}" for number in sorted(found.programs) if query.program(number)]
        words += [f"map {number}" for number in sorted(found.maps) if lib.has_map(number)]
        if not words or clock() >= deadline:
            return words
        pause(POLL)


def strangers(found: Traces) -> list[str]:
    """Programs that are called like ours and were not pinned here: of another agent, with another
    bpffs, or held by a process. Raises BpfError."""
    ours = {program.name[:15] for one in OBJECTS for program in one.programs}
    return [
        f"program {each.id} ({each.name})"
        for each in query.programs()
        if each.name in ours and each.id not in found.programs
    ]


def _leave_namespaces(root: Path) -> None:
    links = NamespaceLinks(f"{root}/links")
    for cookie in links.places():
        links.detach(cookie)


def _remove_pins(root: Path, pins: Iterable[Path]) -> None:
    for pin in pins:
        pin.unlink(missing_ok=True)  # those of namespaces are gone
    for folder in sorted(_folders(root), reverse=True):
        folder.rmdir()
    root.rmdir()


def _remove_state(run_dir: str) -> list[str]:
    """Of an agent that runs nothing is removed: it may be one with another bpffs."""
    if not run_dir or _listens(Path(run_dir) / STATE[-1]):
        return []
    found = [Path(run_dir) / name for name in STATE]
    there = [path for path in found if path.exists() or path.is_socket()]
    for path in there:
        path.unlink()
    return [str(path) for path in there]


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) in (0, EAGAIN)


def _pins(root: Path) -> list[Path]:
    """Links before maps: a program that is attached must not lose its tables first."""
    found = [path for path in _walk(root) if not path.is_dir()]
    return sorted(found, key=lambda path: ("links" not in path.parts, path))


def _folders(root: Path) -> Iterable[Path]:
    return [path for path in _walk(root) if path.is_dir()]


def _walk(root: Path) -> Iterator[Path]:
    return root.rglob("*")
