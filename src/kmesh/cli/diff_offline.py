"""The question of ``kmesh diff`` to a bundle: what the planner would change if it began there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.cli.bundle.read import Bundle
from kmesh.cli.bundle.replay import differences as changes
from kmesh.cli.bundle.replay import replay
from kmesh.cli.diff import Found
from kmesh.core.apart import DESIRED, FRONTENDS, KERNEL, REJECTED, RESOURCES, ROWS, XDS, Apart
from kmesh.core.commands import CIDR, CONFIG, ENROL, POD, VIP
from kmesh.core.differences import of_ops

if TYPE_CHECKING:
    from pathlib import Path


def differences(path: Path, most: int) -> Found:
    """Of services and pods; raises BundleError."""
    made = replay(Bundle(path))
    steering, tables = made.steering, made.found
    rows = {VIP: tables.vips, CIDR: tables.cidrs, ENROL: tables.enrols, POD: tables.pods,
            CONFIG: {bytes(4): tables.config}}  # fmt: skip
    found = [
        Apart(XDS, DESIRED, RESOURCES, name, REJECTED, why)
        for name, why in sorted(made.rejected.items())
    ]
    found += of_ops(steering, changes(steering), rows.__getitem__, (DESIRED, KERNEL))
    store = steering.store
    compared = {
        RESOURCES: len(store.workloads) + len(store.services) + len(made.rejected),
        FRONTENDS: len({**store.claimants, **steering.planner.frontends}),
        ROWS: sum(map(len, rows.values())),
    }
    return Found([each._asdict() for each in found[:most]], len(found), compared)
