"""``kmesh demo``: the whole thing on one screen, and proof that it leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "demo", help="watch traffic being balanced in the kernel, in namespaces of its own"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--keep", action="store_true", help="before cleaning up, let everything run until Ctrl-C"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 only when every claim held; 130 after a signal."""
    from kmesh.cli import demo_screen  # YAML and rich: only for those who need them

    return demo_screen.run(args)
