"""``kmeshctl accesslog``, ``monitoring`` and ``authz``: switches of the agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kmesh.cli.console import err, table
from kmesh.ctl.daemons import failures
from kmesh.ctl.help import command
from kmesh.ctl.reach import Reach
from kmesh.ctl.show import add_output, document
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse

    from kmesh.cli.client import Client

PATHS = {
    "accesslog": "/accesslog",
    "workloadMetrics": "/workload_metrics",
    "connectionMetrics": "/connection_metrics",
    "all": "/monitoring",
}
SHOWN = {"all": "MONITORING", "accesslog": "ACCESSLOG", "workloadMetrics": "WORKLOAD_METRICS",
         "connectionMetrics": "CONNECTION_METRICS"}  # fmt: skip
WORDS = ("enable", "disable")
MONITORING = """\
  kmeshctl monitoring                                   what is on, on every node
  kmeshctl monitoring --all enable                      everything, on every node
  kmeshctl monitoring kmesh-x7k2p --accesslog disable   on one node
  kmeshctl monitoring --workloadMetrics enable --connectionMetrics disable"""
ACCESSLOG = """\
  kmeshctl accesslog status
  kmeshctl accesslog enable
  kmeshctl accesslog disable kmesh-x7k2p kmesh-8dq4n"""
AUTHZ = """\
  kmeshctl authz status
  kmeshctl authz disable kmesh-x7k2p    policies decide nothing on this node
  kmeshctl authz enable"""


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the three commands."""
    parser = command(
        subparsers, "monitoring", "metrics and access log, on one node or all",
        "Turns metrics and the access log on or off, in one agent or in all; without a flag it "
        "shows what is on. --all sets everything together.", MONITORING, monitoring,
    )  # fmt: skip
    parser.add_argument("pod", nargs="?", default="", help="pod of one agent (default: all)")
    for flag in PATHS:
        parser.add_argument(f"--{flag}", choices=WORDS, help="enable or disable")
    add_output(parser)
    _verbs(
        subparsers, "accesslog", "access log, on some nodes or all",
        "A line in the log for every connection that ends. The same as `kmeshctl monitoring "
        "--accesslog`.", ACCESSLOG, "/accesslog", "ACCESSLOG STATUS",
    )  # fmt: skip
    _verbs(
        subparsers, "authz", "enforcement of authorization policies",
        "Turns the enforcement of authorization policies on or off. While it is off no policy "
        "keeps anybody out on that node.", AUTHZ, "/authz", "AUTHORIZATION STATUS",
    )  # fmt: skip


def _verbs(
    subparsers: argparse._SubParsersAction[Any], name: str, summary: str, description: str,
    examples: str, path: str, column: str,
) -> None:  # fmt: skip
    group = command(subparsers, name, summary, description, examples, agents=False)
    verbs = group.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in (*WORDS, "status"):
        what = f"{verb.capitalize()} {name} in every agent"
        if verb == "status":
            what = f"Show {name} in every agent"
        parser = command(
            verbs, verb, "show it" if verb == "status" else f"{verb} it",
            f"{what}, or in the named pods only.",
            f"  kmeshctl {name} {verb}\n  kmeshctl {name} {verb} kmesh-x7k2p", switch,
        )  # fmt: skip
        parser.set_defaults(verb=verb, path=path, column=column)
        parser.add_argument("pods", nargs="*", metavar="POD", help="agents (default: all)")
        add_output(parser)


def switch(args: argparse.Namespace) -> int:
    """0, or 1 when an agent refused or did not answer."""
    reach, failed = Reach(args), 0
    if args.verb != "status":
        failed = _set(reach, args.pods, [(args.path, args.verb)])
        if args.output == "table":
            return failed
    answers = reach.each(args.pods, lambda client: is_on(client, args.path))
    return _show(answers, args.output, {"enabled": args.column}) or failed


def monitoring(args: argparse.Namespace) -> int:
    """0, or 1 when an agent refused or did not answer."""
    reach = Reach(args)
    pods = [args.pod] if args.pod else []
    # All comes first: a flag beside it is an exception from it.
    wanted = [(PATHS[flag], getattr(args, flag)) for flag in SHOWN if getattr(args, flag)]
    failed = _set(reach, pods, wanted) if wanted else 0
    if wanted and args.output == "table":
        return failed
    answers = reach.each(
        pods, lambda client: {flag: is_on(client, PATHS[flag])["enabled"] for flag in SHOWN}
    )
    return _show(answers, args.output, SHOWN) or failed


def is_on(client: Client, path: str) -> dict[str, Any]:
    """Whether a switch is on: ``{"enabled": True}``."""
    found = client.get(path)
    return {"enabled": found["enable"] if isinstance(found, dict) else bool(found)}


def _set(reach: Reach, pods: list[str], wanted: list[tuple[str, str]]) -> int:
    def turn(client: Client) -> None:
        for path, word in wanted:
            client.post(path, {"enable": "true" if word == "enable" else "false"})

    answers = reach.each(pods, turn)
    for agent, answer in answers:
        if not isinstance(answer, KmeshError):
            done = ", ".join(f"{path.strip('/')} {word}d" for path, word in wanted)
            err().print(f"{agent.name}: {done}")
    return failures(answers)


def _show(answers: list[tuple[Any, Any]], output: str, columns: dict[str, str]) -> int:
    good = {agent.name: each for agent, each in answers if not isinstance(each, KmeshError)}
    if output == "table":
        rows = [[name, *(word(each[key]) for key in columns)] for name, each in good.items()]
        table(["POD", *columns.values()], rows)
    else:
        document(good, output)
    return failures(answers)


def word(on: bool) -> str:
    """How a switch is shown."""
    return "enabled" if on else "disabled"
