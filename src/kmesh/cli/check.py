"""``kmesh check``: is this node's agent well? One sentence, the exceptions, an exit code."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kmesh import __version__
from kmesh.cli import client, layout, waiting
from kmesh.cli.console import out, show_error, show_json
from kmesh.core.health import NOTE, Finding, Health, assess
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse


NOT_FOUND = 404
EXAMPLES = """\
  kmesh check                     now; exit code 0 when there is no problem
  kmesh check --wait 60           up to a minute for the agent to become healthy
  kmesh check -o json | jq .findings

A problem makes the exit code 1; a note does not.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = layout.command(
        subparsers,
        "check",
        "one sentence of health, the exceptions, and an exit code",
        "Asks the agent for its state and judges it: the control plane, the kernel's "
        "tables, enrolled pods, authorization, capacities, the process itself.",
        EXAMPLES,
    )
    client.add_options(parser)
    waiting.add_option(parser, "wait so long for a healthy agent (default: do not wait)")
    layout.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """0 healthy, 1 not healthy or no agent."""
    try:
        agent = client.client(args)
        health = waiting.settled(lambda: ask(agent), lambda found: found.healthy, args.wait)
    except KmeshError as error:
        show_error(error)
        return 1
    if args.output == "json":
        findings = [finding._asdict() for finding in health.findings]
        show_json({"healthy": health.healthy, "sentence": health.sentence, "findings": findings})
    else:
        show(health)
    return 0 if health.healthy else 1


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
