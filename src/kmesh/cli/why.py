"""``kmesh why``: which policy lets a connection in, or keeps it out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmesh.cli.console import out, show_error, show_json
from kmesh.errors import ConfigError, KmeshError

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "why",
        help="which policy lets a connection in, or keeps it out",
        description="Asks the agent by which policy and rule a connection is decided, by what the "
        "control plane wants now. Exit code 1 when it is denied.",
    )
    parser.add_argument("source", help="address of the client")
    parser.add_argument("destination", help="the pod: 10.0.0.1:80 or [fd00::1]:80")
    parser.add_argument("--run-dir", default="/run/kmesh", help="default: %(default)s")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    """0 allowed, 1 denied or no agent, 2 wrong usage."""
    host, _, port = args.destination.rpartition(":")
    if not host or not port.isdigit():
        show_error(ConfigError(f"{args.destination!r} is no address with a port"))
        return 2
    from kmesh.lab.enrol import Daemon

    try:
        found = Daemon(Path(args.run_dir)).why(args.source, host.strip("[]"), int(port))
    except KmeshError as error:
        show_error(error)
        return 1
    if args.output == "json":
        show_json(found)
    else:
        out().print(text(args.source, args.destination, found))
    return 0 if found["allowed"] else 1


def text(source: str, destination: str, found: dict[str, Any]) -> str:
    """A few lines for people."""
    rule = "" if found["rule"] is None else f", rule {found['rule'] + 1}"
    by = f" by {found['policy']}{rule}" if found["policy"] else ""
    lines = [
        f"{source} ({found['source_workload'] or 'no workload'}) -> "
        f"{destination} ({found['destination_workload']})",
        f"  identity: {found['source_identity'] or 'none'}",
        f"  {'allowed' if found['allowed'] else 'denied'}: {found['reason']}{by}",
    ]
    if found["dry_run_denies"] is not None:
        what = found["dry_run_denies"] or "no ALLOW policy matches"
        lines.append(f"  in dry run it would be denied: {what}")
    if not found["guarded_here"]:
        lines.append("  this agent does not guard the destination: it is not enrolled here")
    return "\n".join(lines)
