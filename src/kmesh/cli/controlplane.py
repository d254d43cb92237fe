"""``kmesh controlplane``: a mesh file served as delta xDS, edits applied while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmesh.cli.console import log_to_stderr, show_error
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse


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
    from kmesh.controlplane import command  # YAML and gRPC: only for those who need them

    log_to_stderr(args.log_level)
    try:
        command.run(args.mesh, args.listen)
    except KmeshError as error:
        show_error(error)
        return 1
    return 0
