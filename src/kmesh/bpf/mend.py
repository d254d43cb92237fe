"""Puts the links of the node right: those through which every connection is seen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.bpf import lib
from kmesh.bpf.objects import OBJECTS

if TYPE_CHECKING:
    from kmesh.bpf.load import DataPlane


def broken(plane: DataPlane) -> dict[str, str]:
    """What is wrong, by the name of a link; empty when all lead to our programs."""
    found = {}
    programs = (program for one in OBJECTS for program in one.programs)
    for each in programs:
        if not each.link or each.name not in plane.programs:
            continue
        link = lib.pinned(_path(plane, each.link))
        if link is None:
            found[each.link] = "is gone"
            continue
        try:
            info = lib.link_info(link)
        finally:
            os.close(link)
        if not info.target:
            found[each.link] = "was detached"
        elif info.program != lib.program_id(plane.programs[each.name]):
            found[each.link] = "leads to another program"
    return found


def mend(plane: DataPlane) -> dict[str, str]:
    """Attach what is broken again; what was wrong. For the writer only. Raises BpfError."""
    found = broken(plane)
    for name, what in found.items():
        if what == "was detached":
            Path(_path(plane, name)).unlink(missing_ok=True)
    if found:
        plane.attach()
    return found


def _path(plane: DataPlane, name: str) -> str:
    return f"{plane.root}/links/{name}"
