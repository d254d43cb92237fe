"""How ``kmeshctl`` describes itself: one layout for every command."""

from __future__ import annotations

import argparse
import sys
from textwrap import fill
from typing import TYPE_CHECKING, Any

from kmesh.ctl import reach

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 96


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Fixed width, and a flag's value named once."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=WIDTH)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


def parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of the program itself."""
    return argparse.ArgumentParser(
        prog=prog, description=fill(description, WIDTH), epilog=_examples(examples),
        formatter_class=Formatter, allow_abbrev=False, **_plain(),
    )  # fmt: skip


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
    made: argparse.ArgumentParser = subparsers.add_parser(
        name, help=summary, description=fill(description, WIDTH), epilog=_examples(examples),
        formatter_class=Formatter, allow_abbrev=False, **_plain(),
    )  # fmt: skip
    if run is not None:
        made.set_defaults(run=run)
    if agents:
        reach.add_options(made, default=False)
    return made


def _examples(text: str) -> str:
    return f"examples:\n{text.rstrip()}" if text else ""


def _plain() -> dict[str, Any]:
    """Newer versions of Python colour help."""
    return {"color": False} if sys.version_info >= (3, 14) else {}
