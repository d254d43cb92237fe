"""``kmesh controlplane``: a mesh file served as delta xDS, edits applied while it runs."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from kmesh.cli.console import log_to_stderr, show_error
from kmesh.controlplane.file import load, parse
from kmesh.controlplane.server import ControlPlane, Listen
from kmesh.controlplane.watch import edits
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse

    from kmesh.controlplane.mesh import Mesh

log = logging.getLogger("kmesh.controlplane")


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser("controlplane", help="serve a mesh file as delta xDS")
    parser.add_argument("--mesh", type=Path, required=True, metavar="FILE", help="the mesh file")
    parser.add_argument(
        "--listen",
        default="127.0.0.1:15010",
        metavar="HOST:PORT|PATH",
        help="where to serve gRPC; port 0 picks one (default: %(default)s)",
    )
    parser.add_argument(
        "--log-level",
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="least important lines to log (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 1 when the file or the address cannot be used."""
    log_to_stderr(args.log_level)
    try:
        listen = Listen.parse(args.listen)
        load(args.mesh)
        anyio.run(_serve, args.mesh, listen, backend_options={"use_uvloop": True})
    except KmeshError as error:
        show_error(error)
        return 1
    return 0


async def _serve(path: Path, listen: Listen) -> None:
    data = await anyio.Path(path).read_bytes()
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
