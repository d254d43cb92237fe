"""What an agent holds: in the kernel, and as a process. What grows with restarts is leaked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from kmesh.bpf import lib, query

RESIDENT_KIB, MAPS_KIB = 8192, 1024
PAGE = os.sysconf("SC_PAGESIZE")


class Kernel(NamedTuple):
    """Below a folder of pins: their names, how many programs use one of our maps, and what the
    maps take of the kernel's memory, in KiB."""

    pins: tuple[str, ...]
    programs: int
    map_kib: int


def kernel(root: Path) -> Kernel:
    """What is in the kernel for the pins of ``<bpffs>/kmesh``."""
    pins = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    ours, size = set(), 0
    for pin in (root / "maps").iterdir():
        fd = lib.pinned(str(pin))
        assert fd is not None
        try:
            ours.add(lib.map_info(fd).id)
            size += memory(fd)
        finally:
            os.close(fd)
    programs = sum(not ours.isdisjoint(lib.program_maps(each.id)) for each in query.programs())
    return Kernel(tuple(pins), programs, size >> 10)


class Held(NamedTuple):
    """Of a process and its pins: open files, memory, how many pins, programs, memory of maps."""

    files: int
    resident_kib: int
    pins: int
    programs: int
    map_kib: int

    def no_more_than(self, before: Held) -> bool:
        """Whether nothing has grown: an agent that has just started holds some files for a moment.
        Rows of connections and the allocator's moods are allowed for: far less than one agent
        takes."""
        return (
            self.pins == before.pins
            and self.files <= before.files
            and self.programs <= before.programs
            and self.resident_kib - before.resident_kib < RESIDENT_KIB
            and self.map_kib - before.map_kib < MAPS_KIB
        )


def look(root: Path, pid: int | str = "self") -> Held:
    """What a process holds with the pins of ``<bpffs>/kmesh``."""
    found = kernel(root)
    return Held(files(pid), resident_kib(pid), len(found.pins), found.programs, found.map_kib)


def linked(links: Path) -> dict[str, int]:
    """Ids of the programs behind the links that are pinned in a folder, by the links' names."""
    found = {}
    for path in links.iterdir():
        link = lib.pinned(str(path))
        assert link is not None
        found[path.name] = lib.link_info(link).program
        os.close(link)
    return found


def memory(fd: int) -> int:
    """Bytes of the kernel's memory that a map takes, by its own account."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("memlock:"))
    return int(found)


def files(pid: int | str) -> int:
    """Open files of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_kib(pid: int | str) -> int:
    """Memory of a process, the shared part of it too."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE >> 10
