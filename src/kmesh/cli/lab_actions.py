"""What ``kmesh lab`` does and how it shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from kmesh.cli.console import err, out, show_error, show_json, table, text
from kmesh.errors import KmeshError, LabError
from kmesh.lab.connect import Report, connect, order
from kmesh.lab.lab import Lab, LabStatus, PodStatus

if TYPE_CHECKING:
    import argparse

POD = ("POD", "ADDRESSES", "PORTS", "NAMESPACE", "SERVER", "ENROLLED")


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
        answers(report, pod.name)
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
        text(f"lab {status.name} ({status.mesh})")
        table(POD, [_row(pod) for pod in status.pods])
    for line in status.skipped:
        err().print(f"[yellow]left out[/] {escape(line)}")
    for line in status.warnings:
        err().print(f"[yellow]warning[/] {escape(line)}")


def _row(pod: PodStatus) -> tuple[str, ...]:
    return (
        pod.name,
        ",".join(pod.addresses),
        ",".join(map(str, pod.ports)) or "-",
        pod.netns if pod.namespace else "missing",
        f"{pod.server} ({pod.pid})" if pod.pid else pod.server,
        {None: "unknown", True: "yes", False: "no"}[pod.enrolled],
    )


def answers(report: Report, pod: str) -> None:
    """Who answered how often; errors below."""
    text(f"{pod} to {report.target}")
    every = report.connections
    rows = [
        (who, count, f"{count / every:.1%}")
        for part in (report.answers, report.errors)
        for who, count in sorted(part.items())
    ]
    rows += [(f"broken later: {why}", count, "-") for why, count in sorted(report.broken.items())]
    table(("ANSWERED BY", "CONNECTIONS", "SHARE"), rows)
    peers = ", ".join(sorted(report.peers)) or "none"
    speed = report.microseconds
    timing = f"; p50 {speed['p50']:g} µs, p99 {speed['p99']:g} µs" if speed else ""
    text(f"{report.kind}; peer as the client sees it: {peers}{timing}")
