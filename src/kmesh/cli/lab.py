"""``kmesh lab``: namespaces and echo servers for a mesh file's local workloads, and a client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from kmesh.cli.console import err, out, show_error, show_json
from kmesh.errors import KmeshError, LabError
from kmesh.lab.connect import Report, connect, order
from kmesh.lab.lab import Lab, LabStatus, PodStatus

if TYPE_CHECKING:
    import argparse

SERVER_COLOURS = {"alive": "green", "dead": "red", "none": "yellow"}


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
    try:
        return {"up": _up, "down": _down, "status": _status, "connect": _connect}[args.action](args)
    except KmeshError as error:
        if args.json:
            show_json({"code": error.code, "error": error.sentence, "next_step": error.next_step})
        else:
            show_error(error)
        return 1


def _up(args: argparse.Namespace) -> int:
    console = err()
    lab = Lab(args.run_dir, args.name, args.node, lambda line: console.print(f"[dim]{line}[/]"))
    show(lab.up(args.mesh, enrol_required=args.enrol == "required"), as_json=args.json)
    return 0


def _down(args: argparse.Namespace) -> int:
    removed = Lab(args.run_dir, args.name).down()
    if args.json:
        show_json({"lab": args.name, "removed": removed})
        return 0
    for line in removed:
        out().print(f"removed {escape(line)}")
    out().print(f"lab {args.name}: nothing left" if removed else f"there was no lab {args.name}")
    return 0


def _status(args: argparse.Namespace) -> int:
    show(Lab(args.run_dir, args.name).status(), as_json=args.json)
    return 0


def _connect(args: argparse.Namespace) -> int:
    lab = Lab(args.run_dir, args.name)
    pod = lab.pod(args.pod)
    if args.kind != "tcp" and args.keep:
        raise LabError("--keep is for TCP connections", "Leave it out.")
    wish = order(
        lab,
        args.target,
        mesh=args.mesh,
        ipv6=args.ipv6,
        connections=args.n,
        kind=args.kind,
        keep=args.keep,
    )
    report = connect(pod, wish)
    if args.json:
        show_json({"pod": pod.name, **report._asdict(), "ok": report.ok})
    else:
        out().print(answers(report, pod.name))
    return 0 if report.ok else 1


def show(status: LabStatus, *, as_json: bool) -> None:
    """A lab's status on standard output, its warnings on standard error."""
    if as_json:
        pods = [pod._asdict() for pod in status.pods]
        show_json({**status._asdict(), "pods": pods})
        return
    if not status.up:
        out().print(f"there is no lab {status.name}")
    else:
        table = Table(title=f"lab {status.name} ({escape(status.mesh)})")
        for column in ("pod", "addresses", "ports", "namespace", "server", "enrolled"):
            table.add_column(column, overflow="fold")
        for pod in status.pods:
            table.add_row(*_row(pod))
        out().print(table)
    for line in status.skipped:
        err().print(f"[yellow]left out[/] {escape(line)}")
    for line in status.warnings:
        err().print(f"[yellow]warning[/] {escape(line)}")


def _row(pod: PodStatus) -> tuple[str, ...]:
    enrolled = {None: "[dim]unknown[/]", True: "[green]yes[/]", False: "[yellow]no[/]"}
    return (
        pod.name,
        "\n".join(pod.addresses),
        " ".join(map(str, pod.ports)),
        pod.netns if pod.namespace else "[red]missing[/]",
        f"[{SERVER_COLOURS[pod.server]}]{pod.server}[/]" + (f" ({pod.pid})" if pod.pid else ""),
        enrolled[pod.enrolled],
    )


def answers(report: Report, pod: str) -> Table:
    """Who answered how often; errors below."""
    table = Table("answered by", "connections", "share", title=escape(f"{pod} to {report.target}"))
    for name, count in sorted(report.answers.items()):
        table.add_row(f"[green]{escape(name)}[/]", str(count), f"{count / report.connections:.1%}")
    for reason, count in sorted(report.errors.items()):
        table.add_row(f"[red]{escape(reason)}[/]", str(count), f"{count / report.connections:.1%}")
    for reason, count in sorted(report.broken.items()):
        table.add_row(f"[red]broken later: {escape(reason)}[/]", str(count), "")
    peers = ", ".join(sorted(report.peers)) or "none"
    speed = report.microseconds
    timing = f"; p50 {speed['p50']:g} µs, p99 {speed['p99']:g} µs" if speed else ""
    table.caption = f"{report.kind}; peer as the client sees it: {escape(peers)}{timing}"
    return table
