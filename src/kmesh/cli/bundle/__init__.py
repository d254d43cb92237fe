"""``kmesh bundle``: everything that helps to understand a node, in one redacted archive."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmesh.cli import client
from kmesh.cli.console import err, out, show_error
from kmesh.cli.layout import command
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse

BPF_FS = "/sys/fs/bpf"
EXAMPLES = """\
  kmesh bundle                          writes kmesh-bundle-NODE-TIME.tar.gz here
  kmesh bundle -o /tmp/node1.tar.gz
  kmesh bundle --log /var/log/kmesh.log --no-maps

What is in it is listed in its MANIFEST.json, with what could not be had and why. Private keys,
tokens, passwords and values of fields that speak of secrets are taken out before anything is
written; names and addresses of workloads stay. Works without a running agent, with less in it.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = command(
        subparsers,
        "bundle",
        "one redacted archive of everything that helps to understand this node",
        "Collects the agent's state and dumps, the kernel's tables, links and "
        "programs, versions, what `kmesh doctor` finds, and logs, into one tar.gz that only its "
        "owner can read.",
        EXAMPLES,
    )
    client.add_options(parser)
    parser.add_argument(
        "-o", "--output", default="", metavar="FILE",
        help="where to write; nothing is overwritten (default: kmesh-bundle-NODE-TIME.tar.gz)",
    )  # fmt: skip
    parser.add_argument(
        "--bpf-fs-path", default="", metavar="DIR",
        help=f"where the pins are (default: where the agent has them, {BPF_FS} without an agent)",
    )  # fmt: skip
    parser.add_argument(
        "--log", action="append", default=[], metavar="FILE",
        help="add the end of this log; may be repeated",
    )  # fmt: skip
    parser.add_argument("--no-maps", action="store_true", help="leave the kernel's tables out")


def bpffs(agent: client.Client) -> str:
    """Where the agent says that its pins are."""
    try:
        return str(agent.get("/config_dump?limit=0")["config"]["bpfFsPath"])
    except (KmeshError, KeyError, TypeError):
        return BPF_FS


def run(args: argparse.Namespace) -> int:
    """0 written, 1 not written."""
    from kmesh.cli.bundle.collect import collect
    from kmesh.cli.bundle.write import write

    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = Path(args.output or f"kmesh-bundle-{platform.node() or 'node'}-{stamp}.tar.gz")
    try:
        agent = client.client(args)
        logs = [Path(log) for log in args.log]
        parts = collect(agent, args.bpf_fs_path or bpffs(agent), logs, args.no_maps)
        manifest = write(path, stamp, parts)
    except KmeshError as error:
        show_error(error)
        return 1
    for missing in manifest["missing"]:
        err().print(f"not in it: {missing['name']}: {missing['why']}", markup=False)
    size = path.stat().st_size
    count, secrets = len(manifest["files"]), manifest["redacted"]
    taken = "1 secret" if secrets == 1 else f"{secrets} secrets"
    out().print(f"{path}: {count} files, {size >> 10} KiB, {taken} taken out")
    return 0
