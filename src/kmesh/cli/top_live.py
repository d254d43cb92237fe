"""The terminal of ``kmesh top``: a full screen that is drawn again every second and at each key."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kmesh.cli.client import AgentAway
from kmesh.cli.console import out
from kmesh.cli.top_screen import AROUND, View, press, query, screen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.cli.client import Client

EVERY = 1.0
SEQUENCES = {
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down",
    b"\x1b[5~": "pageup", b"\x1b[6~": "pagedown", b"\x1b[H": "home", b"\x1b[1~": "home",
    b"\r": "enter", b"\n": "enter", b"\x7f": "backspace", b"\x08": "backspace",
    b"\x03": "ctrl-c", b"\x1b": "escape",
}  # fmt: skip


def live(agent: Client, view: View) -> None:
    """Show until the user ends it; raises AgentAway when no agent answers at the start."""
    from rich.live import Live

    console = out()
    console.soft_wrap = False
    found = agent.get("/top", query(view, rows_of(console.height)))
    trouble, due = "", time.monotonic() + EVERY
    with keyboard() as fd, Live(console=console, screen=True, auto_refresh=False) as shown:
        while not view.done:
            rows = rows_of(console.height)
            shown.update(screen(found, view, rows, trouble), refresh=True)
            before = view
            for key in pressed(fd, max(0.0, due - time.monotonic())):
                view = press(view, key, rows)
            asked = view._replace(editing=None) != before._replace(editing=None)
            if (asked or time.monotonic() >= due) and not view.paused:
                found, trouble = again(agent, view, rows, found)
                due = time.monotonic() + EVERY
            elif time.monotonic() >= due:
                due = time.monotonic() + EVERY


def again(
    agent: Client, view: View, rows: int, found: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """The next document; the last one and what is wrong while the agent is away."""
    try:
        return agent.get("/top", query(view, rows)), ""
    except AgentAway as error:
        return found, error.sentence


def rows_of(height: int) -> int:
    """Rows of a table that fit the screen."""
    return max(1, height - AROUND)


@contextmanager
def keyboard() -> Iterator[int]:
    """Keys one by one, not shown; the terminal is put back as it was."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def pressed(fd: int, wait: float) -> list[str]:
    """Keys within ``wait`` seconds, those that came together."""
    try:
        ready, _, _ = select.select([fd], [], [], wait)
        return keys(os.read(fd, 256)) if ready else []
    except KeyboardInterrupt:
        return ["ctrl-c"]


def keys(raw: bytes) -> list[str]:
    """Names of the keys in what a terminal sent; unknown sequences are none."""
    found: list[str] = []
    while raw:
        match = max((s for s in SEQUENCES if raw.startswith(s)), key=len, default=b"")
        if match == b"\x1b" and len(raw) > 1 and raw[1:2] in b"[O":
            end = next((i for i in range(2, len(raw)) if 0x40 <= raw[i] <= 0x7E), len(raw) - 1)
            raw = raw[end + 1 :]
            continue
        if match:
            found.append(SEQUENCES[match])
            raw = raw[len(match) :]
            continue
        text = raw.decode(errors="ignore")
        if not text:
            return found
        found.append(text[0])
        raw = raw[len(text[0].encode()) :]
    return found
