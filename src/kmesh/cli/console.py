"""What the commands share about the screen: two consoles, errors, and machine-readable output."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from kmesh.errors import KmeshError


WIDE = 10_000  # as kubectl: the terminal wraps, nothing is cut


def out() -> Console:
    """Standard output: results and tables."""
    from rich.console import Console  # here and below: the agent starts without rich

    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Standard error: progress, warnings, errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their widest cell, no lines between them."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, no_wrap=True)
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    console = out()
    console.width = WIDE
    with console.capture() as capture:
        console.print(made, crop=False)
    text("\n".join(line.rstrip() for line in capture.get().splitlines()))


def text(content: str) -> None:
    """Text as it is: no wrapping, no colour, tabs stay tabs."""
    out().file.write(content.rstrip("\n") + "\n")


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
