"""``kmesh check``: is this node's agent well? One sentence, the exceptions, an exit code."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kmesh import __version__
from kmesh.cli import client
from kmesh.cli.console import out, show_error, show_json
from kmesh.cli.layout import command
from kmesh.core.health import NOTE, Finding, Health, assess
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse

POLL = 0.25  # seconds
NOT_FOUND = 404
EXAMPLES = """\
  kmesh check                     now; exit code 0 when there is no problem
  kmesh check --wait 60           up to a minute for the agent to become healthy
  kmesh check -o json | jq .findings

A problem makes the exit code 1; a note does not.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = command(
        subparsers,
        "check",
        "one sentence of health, the exceptions, and an exit code",
        "Asks the agent for its state and judges it: the control plane, the kernel's "
        "tables, enrolled pods, authorization, capacities, the process itself.",
        EXAMPLES,
    )
    client.add_options(parser)
    parser.add_argument(
        "--wait", type=seconds, default=0.0, metavar="SECONDS",
        help="wait so long for a healthy agent (default: do not wait)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text",
                        help="text or json (default: text)")  # fmt: skip


def seconds(text: str) -> float:
    """A number of seconds from 0 to a day; raises ValueError."""
    number = float(text)
    if not 0 <= number <= 86400:
        raise ValueError("between 0 and 86400")
    return number


def run(args: argparse.Namespace) -> int:
    """0 healthy, 1 not healthy or no agent."""
    try:
        health = settled(client.client(args), args.wait)
    except KmeshError as error:
        show_error(error)
        return 1
    if args.output == "json":
        findings = [finding._asdict() for finding in health.findings]
        show_json({"healthy": health.healthy, "sentence": health.sentence, "findings": findings})
    else:
        show(health)
    return 0 if health.healthy else 1


def settled(agent: client.Client, wait: float) -> Health:
    """The health now, or the first healthy one within ``wait`` seconds; raises AgentAway."""
    deadline = time.monotonic() + wait
    while True:
        last = time.monotonic() >= deadline
        try:
            health = ask(agent)
        except client.AgentAway:
            if last:
                raise
        else:
            if last or health.healthy:
                return health
        time.sleep(POLL)


def ask(agent: client.Client) -> Health:
    """One look at an agent; raises AgentAway or AgentRefused."""
    state = agent.get("/state")
    health = assess(state, enrolled(agent), time.time())
    if state.get("version") == __version__:
        return health
    differs = Finding(
        NOTE, f"the agent is version {state.get('version')}, this command {__version__}",
        "Restart the agent to bring it up to date; traffic goes on meanwhile.",
    )  # fmt: skip
    return health._replace(findings=(*health.findings, differs))


def enrolled(agent: client.Client) -> list[dict[str, Any]] | None:
    """The enrolments; None when the agent does not tell them at this address."""
    try:
        found: list[dict[str, Any]] = agent.get("/enrol")
    except client.AgentRefused as error:
        if error.status == NOT_FOUND:
            return None
        raise
    return found


def show(health: Health) -> None:
    """The sentence, then the exceptions."""
    from rich.markup import escape

    console = out()
    console.print(f"[bold {'green' if health.healthy else 'red'}]{escape(health.sentence)}[/]")
    for finding in health.findings:
        colour = "yellow" if finding.level == NOTE else "red"
        console.print(f"  [{colour}]{finding.level}[/]: {escape(finding.what)}")
        console.print(f"    [dim]{escape(finding.next_step)}[/]")
