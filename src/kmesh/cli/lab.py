"""``kmesh lab``: namespaces and echo servers for a mesh file's local workloads, and a client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command with its actions."""
    parser = subparsers.add_parser("lab", help="pods of a mesh file as network namespaces")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    up = actions.add_parser("up", help="make, mend or adapt the lab; repeating is harmless")
    up.add_argument("--mesh", type=Path, required=True, metavar="FILE", help="the mesh file")
    up.add_argument(
        "--node", default="lab", help="make pods of this node's workloads (default: %(default)s)"
    )
    up.add_argument(
        "--enrol",
        choices=("required", "if-possible"),
        default="if-possible",
        help="what a missing daemon means: an error, or a warning (default: %(default)s)",
    )
    _common(up)
    _common(actions.add_parser("down", help="remove everything that belongs to the lab"))
    _common(actions.add_parser("status", help="namespaces, servers, enrolments"))
    dial = actions.add_parser("connect", help="dial from inside a pod")
    dial.add_argument("pod", metavar="POD", help="name or uid of the workload that dials")
    dial.add_argument(
        "target", metavar="HOST:PORT", help="an address, or a service of the mesh file (its VIP)"
    )
    dial.add_argument("--mesh", type=Path, metavar="FILE", help="default: the lab's own")
    dial.add_argument("-n", type=int, default=1, metavar="N", help="how many connections")
    dial.add_argument("-6", dest="ipv6", action="store_true", help="a service's IPv6 VIP")
    kinds = dial.add_mutually_exclusive_group()
    kinds.add_argument(
        "--udp",
        dest="kind",
        action="store_const",
        const="udp",
        default="tcp",
        help="one datagram a socket",
    )
    kinds.add_argument(
        "--udp-connected",
        dest="kind",
        action="store_const",
        const="udp-connected",
        default="tcp",
        help="the same on connected sockets",
    )
    dial.add_argument(
        "--keep", type=float, default=0.0, metavar="SECONDS", help="keep them open, then echo again"
    )
    _common(dial)
    parser.set_defaults(run=run)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="lab", help="name of the lab (default: %(default)s)")
    parser.add_argument(
        "--run-dir",
        type=Path,
        default=Path("/run/kmesh"),
        metavar="DIR",
        help="where the daemon's socket and the lab's state are (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """0 when done; 1 when something failed, or any connection of ``connect`` did."""
    from kmesh.cli import lab_actions  # YAML and rich: only for those who need them

    return lab_actions.run(args)
