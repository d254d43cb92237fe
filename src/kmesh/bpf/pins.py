"""The folders of pinned maps. ``maps`` is the generation in force; ``next`` is one that is being
made, ``old`` the one before.

A generation is put in force by two renames, and only then do the links get its programs. So a
crash at any moment leaves a whole generation: if ``maps`` is missing, ``next`` was complete.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.bpf import lib

if TYPE_CHECKING:
    from collections.abc import Mapping

CURRENT, NEXT, OLD = "maps", "next", "old"


def recover(root: str) -> None:
    """After a crash: finish or forget a change of generation. What is attached is not touched."""
    current = Path(root, CURRENT)
    if not current.exists() and Path(root, NEXT).exists():
        os.rename(f"{root}/{NEXT}", current)
    current.mkdir(mode=0o700, exist_ok=True)
    for name in (NEXT, OLD):
        drop(root, name)


def opened(root: str) -> dict[str, int]:
    """Fds of the generation in force, by name of the map; none when there is none."""
    found: dict[str, int] = {}
    for pin in sorted(Path(root, CURRENT).glob("*")):
        fd = lib.pinned(str(pin))
        if fd is not None:
            found[pin.name] = fd
    return found


def stage(root: str, maps: Mapping[str, int]) -> None:
    """Pin all maps of the next generation."""
    drop(root, NEXT)
    Path(root, NEXT).mkdir(mode=0o700)
    for name, fd in maps.items():
        lib.pin(fd, f"{root}/{NEXT}/{name}")


def commit(root: str) -> None:
    """The next generation is the one in force from now on."""
    os.rename(f"{root}/{CURRENT}", f"{root}/{OLD}")
    os.rename(f"{root}/{NEXT}", f"{root}/{CURRENT}")


def back(root: str) -> None:
    """The old generation is in force again."""
    os.rename(f"{root}/{CURRENT}", f"{root}/{NEXT}")
    os.rename(f"{root}/{OLD}", f"{root}/{CURRENT}")


def drop(root: str, name: str) -> None:
    """Remove a folder of pins. The kernel frees their maps once the last program that is running
    on them has come to its end."""
    folder = Path(root, name)
    if folder.exists():
        for pin in folder.iterdir():
            pin.unlink()
        folder.rmdir()
