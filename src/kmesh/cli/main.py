"""The ``kmesh`` command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kmesh import __version__
from kmesh.cli import check, controlplane, daemon, demo, doctor, explain, lab, why
from kmesh.cli.console import show_error
from kmesh.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

EPILOG = "Exit codes: 0 success, 1 failure, 2 wrong usage. Errors say what to do next."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="kmesh", description="Node agent of a sidecar-less service mesh.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"kmesh {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (daemon, controlplane, lab, demo, why, explain, check, doctor):
        module.add_parser(commands)
    try:
        args = parser.parse_args(argv)
    except ConfigError as error:
        show_error(error)
        return 2
    runs = {
        "daemon": daemon.run,
        "uninstall": daemon.uninstall,
        "controlplane": controlplane.run,
        "lab": lab.run,
        "demo": demo.run,
        "why": why.run,
        "explain": explain.run,
        "check": check.run,
        "doctor": doctor.run,
    }
    return runs[args.command](args)
