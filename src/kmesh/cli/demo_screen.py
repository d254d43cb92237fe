"""The demo on one screen: chapters as they happen, a table at the end, or one JSON document."""

from __future__ import annotations

import platform
import signal
import time
from importlib.resources import files
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from kmesh.cli.console import err, out, show_error, show_json
from kmesh.errors import KmeshError
from kmesh.lab.interrupts import Interrupted, Interrupts
from kmesh.lab.stage import Stage
from kmesh.lab.story import Claim, Story

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from rich.console import Console

CLEAN_UP = "nothing is left behind"


def run(args: argparse.Namespace) -> int:
    """0 only when every claim held; 130 after a signal."""
    console = err() if args.json else out()
    start = time.monotonic()
    claims: list[Claim] = []
    interrupted = ""
    interrupts = Interrupts()
    with interrupts.raised():
        try:
            _play(args, console, claims, Stage(interrupts))
        except Interrupted as signalled:
            interrupted = str(signalled)
            console.print(f"[yellow]{interrupted}: stopped, everything undone[/]")
        except KmeshError as error:
            claims.append(Claim("the stage is set and cleared", False, str(error)))
            show_error(error)
    ok = bool(claims) and all(claim.ok for claim in claims) and not interrupted
    seconds = time.monotonic() - start
    if args.json:
        document = [claim._asdict() for claim in claims]
        show_json(
            {
                "ok": ok,
                "kernel": platform.release(),
                "seconds": round(seconds, 1),
                "interrupted": interrupted,
                "claims": document,
            }
        )
    else:
        console.print(_table(claims, seconds))
    if interrupted:
        return 130
    return 0 if ok else 1


def _play(args: argparse.Namespace, console: Console, claims: list[Claim], stage: Stage) -> None:
    try:
        stage.open(files("kmesh.lab").joinpath("demo.yaml").read_text())
        story = Story(stage, lambda line: console.print(f"    [dim]{escape(line)}[/]"))
        chapters = story.chapters()
        for number, (title, action) in enumerate(chapters, 1):
            _chapter(console, claims, f"{number}/{len(chapters) + 1}", title, action)
            if not claims[-1].ok:
                _logs(console, stage)
                return
        if args.keep:
            _wait(console, stage)
        last = f"{len(chapters) + 1}/{len(chapters) + 1}"
        _chapter(console, claims, last, CLEAN_UP, story.clean_up)
    except KmeshError as error:
        claims.append(Claim("the story goes on to its end", False, error.sentence))
        show_error(error)
        _logs(console, stage)
    finally:
        stage.clear()


def _chapter(
    console: Console, claims: list[Claim], number: str, title: str, action: Callable[[], Claim]
) -> None:
    console.print(f"[bold cyan]{number}[/] [bold]{escape(title)}[/]")
    claim = action()._replace(title=title)
    claims.append(claim)
    tick = "[green]✓[/]" if claim.ok else "[red]✗[/]"
    console.print(f"    {tick} {escape(claim.measured)}")


def _logs(console: Console, stage: Stage) -> None:
    for actor in stage.actors:
        console.print(f"[bold]last lines of {actor.name}[/] (process {actor.process.pid})")
        for line in actor.tail():
            console.print(f"    [dim]{escape(line)}[/]")


def _wait(console: Console, stage: Stage) -> None:
    """Say how to look around, until a signal comes."""
    agent = f"--run-dir {stage.run_dir}"
    options = f"{agent} --name {stage.name}"
    console.print("[bold]everything runs on; Ctrl-C ends it.[/] In another terminal:")
    console.print(f"    kmesh lab connect client web:80 -n 100 {options}")
    console.print(f"    kmesh lab status {options}")
    console.print(f"    kmesh why client web:80 {agent}")
    console.print(f"    kmesh top {agent}")
    console.print(f"    kmesh tail {agent}")
    console.print(f"    edit {stage.mesh}")
    try:
        signal.pause()
    except Interrupted as signalled:
        console.print(f"[dim]{signalled}[/]")


def _table(claims: list[Claim], seconds: float) -> Table:
    held = sum(claim.ok for claim in claims)
    table = Table("", "claim", "measured", title=f"{held} of {len(claims)} claims hold")
    for claim in claims:
        tick = "[green]✓[/]" if claim.ok else "[red]✗[/]"
        table.add_row(tick, escape(claim.title), escape(claim.measured))
    table.caption = f"kernel {platform.release()}, {seconds:.1f} s"
    return table
