"""How ``kmeshctl`` describes itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from kmesh.cli import layout
from kmesh.ctl import reach

if TYPE_CHECKING:
    from collections.abc import Callable


def parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of the program itself."""
    return argparse.ArgumentParser(prog=prog, **layout.shape(description, examples))


def command(
    subparsers: argparse._SubParsersAction[Any],
    name: str,
    summary: str,
    description: str,
    examples: str,
    run: Callable[[argparse.Namespace], int] | None = None,
    *,
    agents: bool = True,
) -> argparse.ArgumentParser:
    """Add a command; ``agents`` gives it the options that say where agents are."""
    made = layout.command(subparsers, name, summary, description, examples, run)
    if agents:
        reach.add_options(made, default=False)
    return made
