"""The control plane as a process: one file followed, one address served, signals obeyed."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING

import anyio

from kmesh.controlplane.file import parse, read
from kmesh.controlplane.server import ControlPlane, Listen
from kmesh.controlplane.watch import edits

if TYPE_CHECKING:
    from pathlib import Path

    from kmesh.controlplane.mesh import Mesh

log = logging.getLogger("kmesh.controlplane")


def run(path: Path, address: str) -> None:
    """Serve until SIGTERM or SIGINT; raises KmeshError when file or address cannot be used."""
    listen = Listen.parse(address)
    anyio.run(_serve, path, read(path), listen, backend_options={"use_uvloop": True})


async def _serve(path: Path, data: bytes, listen: Listen) -> None:
    mesh = parse(data, str(path))
    plane = ControlPlane(mesh, listen=listen)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with plane.serving() as address, anyio.create_task_group() as group:
            _describe(path, mesh)
            sys.stdout.write(f"ready {address}\n")
            sys.stdout.flush()
            group.start_soon(_follow, plane, path, data)
            async for number in signals:
                log.info("%s: stopping", signal.Signals(number).name)
                group.cancel_scope.cancel()
                break


async def _follow(plane: ControlPlane, path: Path, data: bytes) -> None:
    bad = False
    async for edit in edits(path, data):
        if edit.mesh is None:
            log.error("%s; the last good state stays in force", edit.error and edit.error.sentence)
            bad = True
            continue
        if bad:
            log.info("%s is good again", path)
            bad = False
        deltas = await plane.apply(edit.mesh)
        changed = sum(len(delta.changed) for delta in deltas.values())
        removed = sum(len(delta.removed) for delta in deltas.values())
        log.info("%s edited: %d resources changed, %d removed", path, changed, removed)
        _describe(path, edit.mesh)


def _describe(path: Path, mesh: Mesh) -> None:
    log.info(
        "%s: %d workloads, %d services, %d policies",
        path,
        len(mesh.workloads),
        len(mesh.services),
        len(mesh.policies),
    )
    for loose in mesh.loose_ends():
        log.warning("%s: %s", path, loose)
