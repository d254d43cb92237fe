"""Results on the screen: tables for people, JSON and YAML for programs."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

from kmesh.cli.console import out, show_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

WIDE = 10_000  # as kubectl: the terminal wraps, nothing is cut


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


def document(value: Any, form: str) -> None:
    """A document as ``json`` or ``yaml``."""
    if form == "json":
        show_json(value)
    else:
        text(yaml(value))


def yaml(value: Any) -> str:
    """YAML text, keys in their order."""
    from ruamel.yaml import YAML

    writer = YAML()
    writer.default_flow_style = False
    writer.width = WIDE
    made = StringIO()
    writer.dump(value, made)
    return made.getvalue()


def add_output(parser: argparse.ArgumentParser, *, first: str = "table") -> None:
    """``-o``: the default ``first``, json or yaml."""
    parser.add_argument(
        "-o", "--output", choices=(first, "json", "yaml"), default=first,
        help=f"{first}, json or yaml (default: {first})",
    )  # fmt: skip
