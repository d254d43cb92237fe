"""``kmesh diff``: where what was sent, desired, planned and written are not the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh.cli import client, layout, waiting
from kmesh.cli.console import out, show_error, show_json
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse

SILENCE = 60.0  # seconds
ONE = {
    "resources": "resource", "addresses": "address", "pods": "pod", "policies": "policy",
    "rows": "row",
}  # fmt: skip
EXAMPLES = """\
  kmesh diff                        exit code 0 when all layers agree, else 1
  kmesh diff --wait 30              up to half a minute for the writer to come to everything
  kmesh diff -o json | jq .differences
  kmesh diff --bundle kmesh-bundle-n1.tar.gz

The layers are: xds (what the control plane sent), desired (what of it is in force), planned (what
the writer believes the kernel holds), kernel (what lies in the pinned tables).

How the second layer differs from the first: missing, unplanned (it has more), altered; rejected
(the control plane was told why), waiting (the writer has not come to it yet), failing (it is tried
again), closed (a pod that lets nobody in, and why).
"""


class Found(NamedTuple):
    """The differences that are shown, how many there are, and what was compared."""

    shown: list[dict[str, Any]]
    total: int
    compared: dict[str, int]


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = layout.command(
        subparsers,
        "diff",
        "every difference between what was sent, planned and written",
        "Compares, row by row, what the control plane sent, what is desired, what the writer has "
        "planned and what lies in the kernel, and lists every difference.",
        EXAMPLES,
    )
    client.add_options(parser)
    parser.add_argument(
        "--bundle", type=Path, metavar="FILE", help="ask a bundle of kmesh bundle, not an agent"
    )
    waiting.add_option(
        parser, "compare again for so long while there are differences (default: once)"
    )
    parser.add_argument(
        "--limit", type=limit, default=1000, metavar="N",
        help="differences that are shown; all are counted (default: %(default)s)",
    )  # fmt: skip
    layout.add_output(parser)


def limit(text: str) -> int:
    """A number up to 99,999,999; raises ValueError."""
    number = int(text)
    if not 0 <= number < 100_000_000:
        raise ValueError("between 0 and 99,999,999")
    return number


def run(args: argparse.Namespace) -> int:
    """0 when all layers agree, 1 when they do not or no agent answers."""
    try:
        if args.bundle is not None:
            from kmesh.cli.diff_offline import differences

            found = differences(args.bundle, args.limit)
        else:
            agent = client.client(args)
            found = waiting.settled(
                lambda: ask(agent, args.limit), lambda each: not each.total, args.wait
            )
    except KmeshError as error:
        show_error(error)
        return 1
    if args.output == "json":
        said = {"differences": found.shown, "total": found.total, "compared": found.compared}
        show_json(said)
    else:
        show(found)
    return 1 if found.total else 0


def ask(agent: client.Client, most: int) -> Found:
    """One comparison; raises AgentAway when the agent ends in the middle of it."""
    shown: list[dict[str, Any]] = []
    for line in agent.lines("/diff", {"limit": most}, SILENCE):
        if "compared" in line:
            return Found(shown, line["differences"], line["compared"])
        shown.append(line)
    raise client.AgentAway(f"the agent at {agent.name} ended before its answer did")


def show(found: Found) -> None:
    """A line for each difference, then the sum."""
    lines = []
    for each in found.shown:
        why = f": {each['why']}" if each["why"] else ""
        lines.append(
            f"{each['first']} -> {each['second']}  {each['table']}  {each['what']}  "
            f"{each['kind']}{why}"
        )
    if found.total > len(found.shown):
        lines.append(f"and {found.total - len(found.shown):,} more")
    compared = ", ".join(
        f"{count:,} {ONE.get(sort, sort) if count == 1 else sort}"
        for sort, count in found.compared.items()
    )
    head = "no difference" if not found.total else f"{found.total:,} differences"
    head = "1 difference" if found.total == 1 else head
    lines.append(f"{head}; compared: {compared}")
    out().print("\n".join(lines), markup=False)
