"""``kmeshctl secret``: upstream's key for encryption between nodes, which this build lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kmesh.ctl.errors import NotInThisBuild
from kmesh.ctl.help import command

if TYPE_CHECKING:
    import argparse


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command with its verbs, so that scripts learn why they fail."""
    group = command(
        subparsers, "secret", "IPsec key (not available in this build)",
        "Upstream keeps the key of its IPsec tunnels between nodes in a Kubernetes Secret. This "
        "build has no IPsec: traffic between nodes is plaintext, and no key is made or read.",
        "  kmeshctl secret create    fails, and says so", agents=False,
    )  # fmt: skip
    verbs = group.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in ("create", "get", "delete"):
        summary = f"{verb} the key (not available in this build)"
        parser = command(verbs, verb, summary, f"{summary[0].upper()}{summary[1:]}.", "", run)
        if verb == "create":
            parser.add_argument("-k", "--key", metavar="HEX", default="", help="key and salt")


def run(args: argparse.Namespace) -> int:
    """Always an error."""
    raise NotInThisBuild(f"secret {args.verb}: IPsec is not available in this build")
