"""The ``kmesh`` command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kmesh import __version__
from kmesh.cli import (
    bundle,
    check,
    complete,
    controlplane,
    daemon,
    demo,
    diff,
    doctor,
    explain,
    lab,
    tail,
    top,
    uninstall,
    why,
)
from kmesh.cli.console import show_error
from kmesh.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMANDS = (
    daemon, uninstall, controlplane, lab, demo, why, diff, explain, check, doctor, bundle, tail,
    top,
)  # fmt: skip
EPILOG = "Exit codes: 0 success, 1 failure, 2 wrong usage. Errors say what to do next."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="kmesh", description="Node agent of a sidecar-less service mesh.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"kmesh {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_parser(commands)
    complete.add_parser(commands, "kmesh")
    if (words := complete.asked(argv)) is not None:
        return complete.answer(parser, words)
    try:
        args = parser.parse_args(argv)
    except ConfigError as error:
        show_error(error)
        return 2
    runs: dict[str, Callable[[argparse.Namespace], int]] = {
        module.__name__.rpartition(".")[2]: module.run for module in COMMANDS
    }
    runs["completion"] = complete.run_for("kmesh")
    return runs[args.command](args)
