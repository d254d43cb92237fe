"""The agent as a process: its own bpffs, its own run directory, nothing left when a test ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmesh.bpf import lib, removal
from kmesh.cli.client import Client
from kmesh.lab.enrol import Daemon, DaemonAway
from tests.held import Held, look
from tests.kernel.mesh import dial
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.net import Namespace

KMESH = (sys.executable, "-m", "kmesh")
BETWEEN_DIALS = 0.002


def environment(source: Path | None = None) -> dict[str, str]:
    """Only what a process needs to run: no variable of this machine configures the agent.
    ``source``: where another build of the package is."""
    names = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH")
    found = {name: os.environ[name] for name in names if name in os.environ}
    return found if source is None else {**found, "PYTHONPATH": str(source)}


class Agent:
    """``kmesh daemon`` below ``directory``, which has a bpffs at ``bpf``."""

    def __init__(self, directory: Path, xds: str) -> None:
        self.bpffs, self.run_dir = directory / "bpf", directory / "run"
        self.logs = directory / "daemon.log"
        self.api = Daemon(self.run_dir)
        self.process: subprocess.Popen[bytes] | None = None
        self.source: Path | None = None  # of another build
        self._xds = xds

    def command(self, *options: str) -> list[str]:
        """The command line; later options win over the usual ones."""
        return [
            *(*KMESH, "daemon", "--run-dir", str(self.run_dir)),
            *("--bpf-fs-path", str(self.bpffs), "--node-name", "n1"),
            # Agents of other test runs may be on this machine.
            *("--metrics-address", "", "--admin-address", "", "--probe-address", ""),
            *("--xds-address", self._xds, *options),
        ]

    def start(self, *options: str) -> None:
        """Start; returns when it answers at its socket."""
        assert self.process is None, "it runs already"
        with self.logs.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(*options), stdin=subprocess.DEVNULL, stderr=log,
                env=environment(self.source),
            )  # fmt: skip
        until(self._answers, self.tail)

    def start_synced(self, *options: str) -> None:
        """Start; returns when it is in sync with the control plane."""
        self.start(*options)
        self.until(lambda state: state["synced"])

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.tail()
        try:
            self.api.state()
        except DaemonAway:
            return False
        return True

    def state(self) -> dict[str, Any]:
        """GET /state."""
        return self.api.state()

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Look at the state until it holds; gives that state."""
        seen: list[dict[str, Any]] = [self.state()]

        def look() -> bool:
            seen[0] = self.state()
            return holds(seen[0])

        until(look, lambda: f"{seen[0]}\n{self.tail()}")
        return seen[0]

    def audit(self) -> dict[str, Any]:
        """POST /audit."""
        found: dict[str, Any] = Client(self.run_dir).post("/audit")
        return found

    def enrol(self, pod: Namespace, name: str = "client", namespace: str = "default") -> None:
        """Enrol a namespace; returns when the kernel has it, with its view if there is a mesh."""
        self.api.enrol(Path(pod.path), uid(name, namespace))
        self.until_enrolled(pod)

    def withdraw(self, pod: Namespace) -> None:
        """End an enrolment; returns when the kernel has none."""
        self.api.withdraw(Path(pod.path))
        until(lambda: not self.row(pod), self.api.enrolled)

    def until_enrolled(self, pod: Namespace) -> dict[str, Any]:
        """Wait until the kernel has a namespace; its row of GET /enrol."""
        until(
            lambda: bool(self.row(pod).get("enrolled")), lambda: (self.api.enrolled(), self.tail())
        )
        return self.row(pod)

    def row(self, pod: Namespace) -> dict[str, Any]:
        """A namespace's row of GET /enrol; empty when it has none."""
        rows = self.api.enrolled()
        return next((row for row in rows if row["cookie"] == pod.cookie), {})

    def kernel(self) -> dict[str, list[tuple[bytes, bytes]]]:
        """Rows of the pinned maps, by map, as they lie in the kernel."""
        found = {}
        for name in ("km_vip", "km_enrol", "km_pod"):
            fd = lib.pinned(f"{self.bpffs}/kmesh/maps/{name}")
            assert fd is not None, f"{name} is not pinned"
            with contextlib.closing(os.fdopen(fd)):
                found[name] = sorted(lib.rows(fd))
        return found

    def held(self) -> Held:
        """What it holds."""
        assert self.process is not None
        return look(self.bpffs / "kmesh", self.process.pid)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it in good order; its exit status."""
        return self._end(number)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None, "it does not run"
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self.process = None
        return status

    def tail(self) -> str:
        """Its last words."""
        return "\n".join(self.logs.read_text().splitlines()[-30:]) if self.logs.exists() else ""

    def clear(self) -> None:
        """End the process and remove the pins."""
        try:
            if self.process is not None:
                self.process.kill()
                self.process.wait()
        finally:
            removal.remove(str(self.bpffs))


@contextlib.contextmanager
def agent(directory: Path, xds: str) -> Iterator[Agent]:
    """An agent that is not started yet; these tests need root and fail without it."""
    assert os.geteuid() == 0, "the agent needs root"
    made = Agent(directory, xds)
    made.bpffs.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(made.bpffs)], check=True)
    try:
        yield made
    finally:
        try:
            made.clear()
        finally:
            subprocess.run(["umount", str(made.bpffs)], check=True)


def uid(name: str, namespace: str = "default") -> str:
    """Uid of a pod."""
    return f"Kubernetes//Pod/{namespace}/{name}"


class Dialler:
    """Connects to a VIP again and again in a thread until the block ends; counts what happened."""

    MOST = 20_000

    def __init__(self, pod: Namespace, address: str, port: int) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._where = (pod, address, port)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def more(self, count: int) -> None:
        """Wait for so many further answers."""
        goal = self.answers + count
        until(lambda: self.answers >= goal or bool(self.failures), lambda: self.answers)

    def __enter__(self) -> Dialler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pod, address, port = self._where
        while not self._stop.wait(BETWEEN_DIALS) and self.answers < self.MOST:
            try:
                dial(pod, address, port)
            except OSError as error:
                self.failures.append(repr(error))
            else:
                self.answers += 1
