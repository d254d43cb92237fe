"""``kmesh top``: services and workloads of this node, what they do now, live."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from kmesh.cli import client, layout
from kmesh.cli.console import out, show_error, show_json
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse

MOST_ROWS = 1000
EXAMPLES = """\
  kmesh top                        live; the keys are shown in the last line
  kmesh top --once --sort failed   one table, the services with most failures first
  kmesh top -o json | jq '.services.rows[] | select(.state != "ok")'
  kmesh top workloads --once

Rates are counted between two samples: --once waits for the second one. A dash is what this agent
does not count; it is not nought.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = layout.command(
        subparsers, "top",
        "services and workloads of this node, live: connections, bytes, failed, refused",
        "Asks the agent every second and shows what the services and workloads of this node do: "
        "connections, bytes, failed and refused connections, round-trip times.",
        EXAMPLES,
    )  # fmt: skip
    parser.add_argument(
        "what", nargs="?", choices=("services", "workloads"), default="services",
        help="what to begin with (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--sort", default="connections",
        choices=("name", "endpoints", "connections", "bytes", "failed", "refused", "rtt", "slots"),
        help="largest first (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--filter", default="", metavar="WORDS", help="only names and addresses with these words"
    )
    parser.add_argument(
        "--window", type=window, default=5.0, metavar="SECONDS",
        help="rates over so many seconds, 1 to 60 (default: 5)",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=limit, default=100, metavar="N",
        help="rows of --once and -o json, at most 1000 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="print one table and end")
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="json implies --once"
    )
    client.add_options(parser)


def window(text: str) -> float:
    """Seconds that the agent keeps samples for; raises ValueError."""
    seconds = float(text)
    if not 1 <= seconds <= 60:
        raise ValueError("between 1 and 60")
    return seconds


def limit(text: str) -> int:
    """A number of rows; raises ValueError."""
    rows = int(text)
    if not 1 <= rows <= MOST_ROWS:
        raise ValueError("between 1 and 1000")
    return rows


def run(args: argparse.Namespace) -> int:
    """0 when done, 1 when no agent answers."""
    from kmesh.cli.top_screen import View

    view = View(args.what, args.sort, args.filter, window=args.window)
    try:
        agent = client.client(args)
        if args.once or args.output == "json":
            return once(agent, view, args)
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            return once(agent, view, args)
        from kmesh.cli.top_live import live

        live(agent, view)
    except KmeshError as error:
        show_error(error)
        return 1
    return 0


def once(agent: client.Client, view: Any, args: argparse.Namespace) -> int:
    """One table or document with rates."""
    from rich.console import Console

    from kmesh.cli.top_screen import query, screen

    parameters = query(view, args.limit)
    found = agent.get("/top", parameters)
    if found["seconds"] is None:
        time.sleep(args.window)  # until the second sample has something to say
        found = agent.get("/top", parameters)
    if args.output == "json":
        show_json(found)
        return 0
    console = out() if sys.stdout.isatty() else Console(highlight=False, width=140)
    console.print(screen(found, view, args.limit, once=True), soft_wrap=False)
    return 0
