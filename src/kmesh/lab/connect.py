"""Dial from inside a pod: the client runs in the pod's network namespace and nothing else of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from kmesh.controlplane.file import load
from kmesh.core import addr
from kmesh.errors import LabError
from kmesh.lab import netns
from kmesh.lab.dial import Order
from kmesh.lab.spec import resolve

if TYPE_CHECKING:
    from kmesh.lab.lab import Lab
    from kmesh.lab.spec import Pod

COUNT_LIMIT = 100_000
HELD_LIMIT = 10_000
KEEP_LIMIT = 600.0  # seconds


class Report(NamedTuple):
    """``answers``, ``peers`` (as the client sees them) and ``errors`` count connections.

    ``broken`` counts held connections that no longer echo. ``microseconds`` has p50, p99, max from
    dialling to the first echo.
    """

    target: str
    kind: str
    connections: int
    answers: dict[str, int]
    errors: dict[str, int]
    peers: dict[str, int]
    held: int
    broken: dict[str, int]
    seconds: float
    microseconds: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether every connection worked, from its beginning to its end."""
        return (
            not self.errors and not self.broken and sum(self.answers.values()) == self.connections
        )


def order(
    lab: Lab, target: str, *, mesh: Path | None = None, ipv6: bool = False, **options: Any
) -> Order:
    """An order for ``HOST:PORT`` or ``[V6]:PORT``; raises LabError for what cannot be dialled."""
    host, colon, port = target.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise LabError(f"the target must be HOST:PORT, not {target!r}", "Give a port.")
    host = host.removeprefix("[").removesuffix("]")
    try:
        host = addr.text(addr.parse(host))
    except ValueError:
        host = resolve(load(mesh or Path(lab.mesh())), host, ipv6=ipv6)
    made = Order(host, int(port), **options)
    limit = HELD_LIMIT if made.hold or made.keep else COUNT_LIMIT
    if not 0 < made.connections <= limit or not 0 <= made.keep <= KEEP_LIMIT:
        raise LabError(
            f"at most {limit} connections, kept for at most {KEEP_LIMIT:g} s", "Ask for less."
        )
    return made


class Dialling:
    """A client at work in a pod; use as a context manager, which ends it if it still runs."""

    def __init__(self, pod: Pod, order: Order) -> None:
        self._order = order
        self._process = subprocess.Popen(
            [
                "nsenter",
                f"--net={netns.path(pod.netns)}",
                sys.executable,
                "-m",
                "kmesh.lab.dial",
                json.dumps(order._asdict()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        self._last: dict[str, Any] = {}

    def __enter__(self) -> Dialling:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def progress(self) -> dict[str, Any] | None:
        """Wait for the next line, ``done`` and ``at``, or ``held``; None once the report is in."""
        line = _stream(self._process.stdout).readline()
        if not line:
            return None
        self._last = json.loads(line)
        return None if "answers" in self._last else self._last

    def release(self) -> None:
        """Let held connections echo and end."""
        stdin = _stream(self._process.stdin)
        stdin.write("\n")
        stdin.flush()

    def report(self) -> Report:
        """Wait for the end; raises LabError when the client died."""
        while "answers" not in self._last and self.progress() is not None:
            pass
        if "answers" not in self._last:
            code = self._process.wait()
            raise LabError(f"the client in the pod ended with status {code}")
        target = f"[{self._order.host}]" if ":" in self._order.host else self._order.host
        return Report(target=f"{target}:{self._order.port}", kind=self._order.kind, **self._last)


def connect(pod: Pod, order: Order) -> Report:
    """Dial and wait for the report."""
    with Dialling(pod, order) as dialling:
        return dialling.report()


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None, "both pipes were asked for"
    return stream
