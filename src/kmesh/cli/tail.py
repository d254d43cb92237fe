"""``kmesh tail``: what the kernel decides, live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from kmesh.cli import client, layout
from kmesh.cli.console import out, show_error
from kmesh.core.live import line
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

SILENCE = 30.0  # seconds; the agent sends an empty line every five
COLOURS = {
    "denied": "red",
    "dry_run": "yellow",
    "failed": "red",
    "refused": "red",
    "close": "green",
    "open": "cyan",
}
EXAMPLES = """\
  kmesh tail                              everything on this node
  kmesh tail --denied                     what is refused, and what would be in dry run
  kmesh tail --pod shop/web-0 -o json     one pod, a JSON object a line
  kmesh tail --service checkout -n 10     ten records, then it ends

While somebody watches, connections are reported also when the access log is off. A reader that is
too slow is told how many records it has missed. `kmesh explain REASON` explains a reason.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = layout.command(
        subparsers,
        "tail",
        "connections and denials of this node, live",
        "Shows what the kernel's programs report: connections of this node's pods as "
        "they open, close or fail, and what policies refuse, with names and reasons.",
        EXAMPLES,
    )
    client.add_options(parser)
    parser.add_argument("--pod", default="", metavar="POD", help="name, namespace/name or uid")
    parser.add_argument(
        "--service", default="", metavar="SERVICE", help="name, hostname or namespace/hostname"
    )
    parser.add_argument("--denied", action="store_true", help="only what the mesh refuses")
    parser.add_argument("-n", "--limit", type=int, metavar="N", help="end after so many records")
    layout.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """0 when the limit is reached or at ^C, 1 when the agent is away or goes away."""
    query = {"pod": args.pod, "service": args.service, "limit": args.limit or ""}
    asked = {name: value for name, value in query.items() if value}
    if args.denied:
        asked["denied"] = "1"
    try:
        for found in follow(client.client(args), asked):
            show(found, args.output)
    except KmeshError as error:
        show_error(error)
        return 1
    except KeyboardInterrupt:
        pass  # the usual way to end it
    return 0


def follow(agent: client.Client, query: Mapping[str, object]) -> Iterator[dict[str, Any]]:
    """Records as they come; raises AgentAway when the agent ends before the limit."""
    left = int(str(query.get("limit", 0)))
    for found in agent.lines("/events", query, SILENCE):
        yield found
        if "dropped" not in found and left:
            left -= 1
            if not left:
                return
    raise client.AgentAway(f"the agent at {agent.name} has ended")


def show(found: Mapping[str, Any], output: str) -> None:
    """One record, at once."""
    console = out()
    if output == "json":
        console.file.write(orjson.dumps(found).decode() + "\n")
    else:
        now = found.get("time", time.time())
        stamp = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1000):03}"
        console.print(
            line(found, stamp), style=COLOURS.get(found.get("kind", ""), "default"), markup=False
        )
    console.file.flush()
