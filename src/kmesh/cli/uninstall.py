"""``kmesh uninstall``: the only thing that removes, and the proof that nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmesh.cli import layout
from kmesh.cli.console import out, show_error, show_json
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  kmesh uninstall             remove links, pins and state; traffic goes as without a mesh
  kmesh uninstall --verify    and look into the kernel whether all of it is gone
"""
WITHIN = 10.0


class LeftBehind(KmeshError):
    """Something that was ours is still in the kernel."""

    code = "KM1503"
    next_step = (
        "See who holds it: bpftool prog, bpftool map, fuser on the bpffs; then run it again."
    )


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = layout.command(
        subparsers, "uninstall",
        "detach the programs and remove every pin: the only thing that does",
        "Takes everything out of the kernel that agents put there: links, filters, programs, maps, "
        "and their state. Established connections go on; new ones are steered and judged no more.",
        EXAMPLES,
    )  # fmt: skip
    parser.add_argument("--bpf-fs-path", default="/sys/fs/bpf", metavar="DIR",
                        help="the agent's bpffs (default: %(default)s)")  # fmt: skip
    parser.add_argument("--run-dir", default="/run/kmesh", metavar="DIR",
                        help="directory of the agent's state (default: %(default)s)")  # fmt: skip
    parser.add_argument(
        "--verify", action="store_true", help="fail unless all of it is gone from the kernel"
    )
    parser.add_argument("--json", action="store_true", help="what was removed and is left, as JSON")


def run(args: argparse.Namespace) -> int:
    """0 when everything is removed; 1 when an agent still runs, or something is left."""
    from kmesh.bpf import removal

    try:
        removed = removal.remove(args.bpf_fs_path, args.run_dir)
        left, others = [], []
        if args.verify:
            left = removal.left(removed.traces, Path(args.bpf_fs_path) / "kmesh", WITHIN)
            others = removal.strangers(removed.traces)
    except KmeshError as error:
        show_error(error)
        return 1
    if args.json:
        found = {"removed": removed.paths}
        if args.verify:
            found |= {"left": left, "of_others": others}
        show_json(found)
    else:
        show(removed.paths, left, others, args.verify)
    return 1 if left else 0


def show(removed: list[str], left: list[str], others: list[str], verified: bool) -> None:
    """The same in sentences."""
    out().print(f"removed {len(removed)} pins" if removed else "nothing was pinned")
    if others:
        out().print(f"not ours: {', '.join(others)} (another agent, or a process that holds them)")
    if left:
        show_error(LeftBehind(f"still there: {', '.join(left)}"))
    elif verified:
        out().print("verified: no pin, no program and no table of it is left")
