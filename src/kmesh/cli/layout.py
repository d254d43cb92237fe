"""One layout for the help of every command: fixed width, and a flag's value named once."""

from __future__ import annotations

import argparse
import sys
from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 96


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions and examples stay as they are written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=WIDTH)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


def command(
    subparsers: argparse._SubParsersAction[Any],
    name: str,
    summary: str,
    description: str,
    examples: str,
    run: Callable[[argparse.Namespace], int] | None = None,
) -> argparse.ArgumentParser:
    """Add a command; ``examples`` are lines of two blanks and a command, text may follow."""
    made: argparse.ArgumentParser = subparsers.add_parser(
        name, help=summary, **shape(description, examples)
    )
    if run is not None:
        made.set_defaults(run=run)
    return made


def add_output(parser: argparse.ArgumentParser) -> None:
    """``-o``: text or json."""
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text",
        help="text or json (default: text)",
    )  # fmt: skip


def shape(description: str, examples: str) -> dict[str, Any]:
    """What every parser has in common."""
    found: dict[str, Any] = {
        "description": fill(description, WIDTH),
        "epilog": f"examples:\n{examples.rstrip()}" if examples else "",
        "formatter_class": Formatter,
        "allow_abbrev": False,
    }
    if sys.version_info >= (3, 14):  # which colours help
        found["color"] = False
    return found
