"""The question of ``kmesh diff`` to a bundle: the same comparisons, of what its parts say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.cli.bundle.read import Bundle
from kmesh.cli.bundle.replay import differences as changes
from kmesh.cli.bundle.replay import replay
from kmesh.cli.diff import Found
from kmesh.core.apart import (
    DESIRED,
    FRONTENDS,
    KERNEL,
    PLANNED,
    PODS,
    REJECTED,
    RESOURCES,
    ROWS,
    XDS,
    Apart,
)
from kmesh.core.audit import Kind, Picture, Sweep
from kmesh.core.differences import of_ops
from kmesh.core.guard_differences import guarded
from kmesh.core.registry import COUNTED
from kmesh.core.row_names import describe

if TYPE_CHECKING:
    from pathlib import Path

    from kmesh.cli.bundle.replay import Replayed


def differences(path: Path, most: int) -> Found:
    """Of every pair of layers; raises BundleError."""
    made = replay(Bundle(path))
    steering, tables = made.steering, made.planned.tables
    found = [
        Apart(XDS, DESIRED, RESOURCES, name, REJECTED, why)
        for name, why in sorted(made.rejected.items())
    ]
    found += [apart for step in guarded(steering, made.sets) for apart in step.found]
    found += of_ops(steering, changes(steering), tables.__getitem__, (DESIRED, PLANNED))
    different, rows = written(made)  # now every id has a name
    found += different
    store = steering.store
    compared = {
        RESOURCES: len(store.workloads) + len(store.services) + len(steering.guards.index.policies)
        + len(made.rejected),
        FRONTENDS: len({**store.claimants, **steering.planner.frontends}),
        PODS: len(steering.pods.wanted),
        ROWS: rows,
    }  # fmt: skip
    return Found([each._asdict() for each in found[:most]], len(found), compared)


def written(made: Replayed) -> tuple[list[Apart], int]:
    """(what was planned against what lay in the kernel, rows that were compared)."""
    found, looked = [], 0
    for table, rows in made.planned.tables.items():
        picture = Picture(
            table, rows.keys, rows.get, lambda *_: None, lambda: True, counts=table in COUNTED
        )
        sweep = Sweep(picture, made.kernel)
        while (step := sweep.step()) is not None:
            looked += step[0]
            for each in step[1]:
                if made.settled or each.kind is not Kind.UNPLANNED:
                    what = describe(made.steering, table, each.key)
                    found.append(Apart(PLANNED, KERNEL, table, what, str(each.kind)))
    return found, looked
