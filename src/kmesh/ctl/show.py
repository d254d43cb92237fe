"""Results on the screen: tables for people, JSON and YAML for programs."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

from kmesh.cli.console import WIDE, show_json, text

if TYPE_CHECKING:
    import argparse


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
