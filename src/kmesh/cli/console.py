"""What the commands share about the screen: two consoles, errors, and machine-readable output."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from rich.console import Console

    from kmesh.errors import KmeshError


def out() -> Console:
    """Standard output: results and tables."""
    from rich.console import Console  # here and below: the agent starts without rich

    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Standard error: progress, warnings, errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def show_error(error: KmeshError) -> None:
    """An error with its code and its next step."""
    from rich.markup import escape

    console = err()
    console.print(f"[bold red]{error.code}[/] {escape(error.sentence)}")
    console.print(f"  [dim]{escape(error.next_step)}[/]")


def show_json(document: object) -> None:
    """One JSON document on standard output."""
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    out().out(data.decode(), highlight=False)


def log_to_stderr(level: str) -> None:
    """Log lines with time, level and origin on standard error."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
