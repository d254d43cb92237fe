"""What the kernel holds for a process that has ended, by its memory controller (cgroup 2 or 1)."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._stage import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks._stage import Stage

OLD = Path("/sys/fs/cgroup/memory")  # where cgroup 1 is mounted
OLD_FILE = "memory.kmem.usage_in_bytes"


@contextmanager
def group(stage: Stage) -> Iterator[Path | None]:
    """A cgroup that counts memory, as long as the block; None where there is no controller."""
    root = _root(stage)
    if root is None:
        yield None
        return
    path = root / f"{PREFIX}{os.getpid()}"
    with stage.held():
        path.mkdir()
    try:
        yield path
    finally:
        path.rmdir()


def charged(path: Path) -> int:
    """Bytes of kernel memory that a cgroup is charged with; files that it read do not count."""
    if (path / OLD_FILE).exists():
        return int((path / OLD_FILE).read_text())
    rows = dict(line.split() for line in (path / "memory.stat").read_text().splitlines())
    return int(rows.get("kernel", rows["slab"]))  # older kernels do not add up


def _root(stage: Stage) -> Path | None:
    if "memory" in (stage.cgroups / "cgroup.controllers").read_text().split():
        (stage.cgroups / "cgroup.subtree_control").write_text("+memory")
        return stage.cgroups
    if not (OLD / OLD_FILE).exists():
        return None
    for left in OLD.glob(f"{PREFIX}*"):  # of a run that was killed
        if not Path(f"/proc/{left.name.removeprefix(PREFIX)}").exists():
            left.rmdir()
    return OLD
