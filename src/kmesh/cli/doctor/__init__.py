"""``kmesh doctor``: can this node run the agent, and who else works at its hooks?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from kmesh.cli import layout
from kmesh.cli.console import out, show_json
from kmesh.core.verdicts import FAILED, INFO, OK, WARNING, Verdict

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from rich.console import Console

EXAMPLES = """\
  kmesh doctor                    everything, with what it means and what to do
  kmesh doctor --quiet            only what is not well
  kmesh doctor -o json            for machines: every check with its level

Programs are loaded to see whether this kernel takes them; nothing is attached, pinned or changed,
and a running agent is not disturbed. Exit code 1 when a check failed; warnings leave it 0.
"""
COLOURS = {OK: "green", INFO: "cyan", WARNING: "yellow", FAILED: "bold red"}


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = layout.command(
        subparsers,
        "doctor",
        "can this node run the agent, and who else works at its hooks",
        "Loads every program without attaching it, probes the kernel, the mounts, the "
        "limits and the permissions, and looks for programs of others at the same hooks. Says "
        "what each finding means and what to do.",
        EXAMPLES,
    )
    parser.add_argument(
        "--bpf-fs-path", default="/sys/fs/bpf", metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--cgroup2-path", default="", metavar="DIR", help="default: found in /proc/mounts"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="only warnings and failures")
    layout.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """0 the agent can run here, 1 it cannot."""
    from kmesh.cli.doctor.look import examine  # the C extension: only this command needs it

    verdicts = examine(args.bpf_fs_path, args.cgroup2_path)
    failed = any(verdict.level == FAILED for verdict in verdicts)
    if args.output == "json":
        show_json({"ok": not failed, "checks": [verdict._asdict() for verdict in verdicts]})
    else:
        show(out(), verdicts, quiet=args.quiet)
    return 1 if failed else 0


def show(console: Console, verdicts: Sequence[Verdict], *, quiet: bool) -> None:
    """Group by group, then the sum."""
    from rich.markup import escape

    group = ""
    for verdict in verdicts:
        if quiet and verdict.level in (OK, INFO):
            continue
        if verdict.group != group:
            group = verdict.group
            console.print(f"[bold]{escape(group)}[/]")
        level = f"[{COLOURS[verdict.level]}]{verdict.level:<7}[/]"
        console.print(f"  {level} {escape(verdict.name)}: {escape(verdict.found)}")
        for text in filter(None, (verdict.means, verdict.next_step)):
            console.print(f"            [dim]{escape(text)}[/]")
    console.print(summary(verdicts))


def summary(verdicts: Sequence[Verdict]) -> str:
    """One sentence."""
    count = Counter(verdict.level for verdict in verdicts)
    warnings = "1 warning" if count[WARNING] == 1 else f"{count[WARNING]} warnings"
    what = f"{count[FAILED]} failed, {warnings}, {count[OK] + count[INFO]} well"
    able = "cannot" if count[FAILED] else "can"
    return f"The agent {able} run here: {what}."
