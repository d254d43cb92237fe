"""Where the demo plays: own directory, own bpffs, own processes, own namespaces; all of it undone.

Everything made is pushed on a stack at once, so that an interruption at any moment undoes it.
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kmesh.bpf.mounts import CGROUP2, mount_points
from kmesh.errors import KmeshError, LabError
from kmesh.lab import netns
from kmesh.lab.enrol import Daemon, DaemonAway
from kmesh.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.lab.interrupts import Interrupts

READY_WITHIN = 30.0  # seconds
STOP_WITHIN = 10.0  # seconds
POLL = 0.01  # seconds between two looks at a condition
LOG_LINES = 15
ADVICE = "Read the log lines below."


class Actor(NamedTuple):
    """One process of the demo and where it logs."""

    name: str
    process: subprocess.Popen[str]
    log: Path

    def stop(self) -> int:
        """End it by SIGTERM, or SIGKILL when it does not listen; gives its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise LabError(
                f"{self.name} ignored SIGTERM for {STOP_WITHIN:g} s", "It was killed."
            ) from None
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()

    def tail(self) -> list[str]:
        """Its last log lines."""
        return self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]


class Stage:
    """:meth:`open` it, use it, :meth:`clear` it; the name is unique on this machine."""

    def __init__(self, interrupts: Interrupts) -> None:
        self.name = f"demo{os.getpid()}"
        self.actors: list[Actor] = []
        self._held = interrupts.held
        self._undo = ExitStack()
        self.directory = Path(tempfile.gettempdir()) / f"kmesh-{self.name}-{secrets.token_hex(4)}"
        self.run_dir = self.directory / "run"
        self.mesh = self.directory / "mesh.yaml"
        self.bpffs = self.directory / "bpf"
        self.cgroup2: Path | None = None
        self.lab = Lab(self.run_dir, self.name)
        self.daemon = Daemon(self.run_dir)
        self._controlplane = ""

    def open(self, mesh: str) -> None:
        """Make the directory with a mesh file of this text, and the mounts."""
        with self._held():
            self.directory.mkdir(mode=0o700)
            self._undo.callback(shutil.rmtree, self.directory)
        self.run_dir.mkdir()
        self.mesh.write_text(mesh)
        # A mount of our own: other agents' pins stay out of sight, and ours go with it.
        self._mount("bpf", self.bpffs)
        if not mount_points(CGROUP2, Path("/proc/mounts").read_text()):
            self.cgroup2 = self.directory / "cgroup2"
            self._mount("cgroup2", self.cgroup2)
        self._undo.callback(self.lab.down)

    def _mount(self, kind: str, path: Path) -> None:
        with self._held():
            path.mkdir()
            self._undo.callback(path.rmdir)
            _call("mount", "-t", kind, kind, str(path))
            self._undo.callback(_call, "umount", str(path))

    def start_controlplane(self) -> str:
        """Start it; gives its address once it serves."""
        listen = ["--mesh", str(self.mesh), "--listen", "127.0.0.1:0"]
        actor = self._start("controlplane", *listen)
        line = _first_line(actor)
        word, _, address = line.partition(" ")
        if word != "ready":
            raise self._failure(actor, "did not get ready")
        self._controlplane = address.strip()
        return self._controlplane

    def start_daemon(self) -> Actor:
        """Start it; returns once it says that it is in sync with the control plane."""
        actor = self._start(
            "daemon",
            *("--run-dir", str(self.run_dir)),
            *("--bpf-fs-path", str(self.bpffs)),
            *("--xds-address", f"http://{self._controlplane}"),
            *("--node-name", "lab"),
            *("--cluster-id", "Kubernetes"),
            *(("--cgroup2-path", str(self.cgroup2)) if self.cgroup2 else ()),
        )
        self.until(lambda: self._synced(actor), "the daemon is in sync")
        return actor

    def _synced(self, actor: Actor) -> bool:
        if actor.process.poll() is not None:
            raise self._failure(actor, f"ended with status {actor.process.returncode}")
        try:
            return bool(self.daemon.state()["synced"])
        except DaemonAway:
            return False

    def _start(self, command: str, *options: str) -> Actor:
        log = self.directory / f"{command}.{len(self.actors)}.log"
        with log.open("w") as errors, self._held():
            process = subprocess.Popen(
                [sys.executable, "-m", "kmesh", command, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if command == "controlplane" else errors,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is for the demo, which ends them in order
            )
            actor = Actor(command, process, log)
            self.actors.append(actor)
            self._undo.callback(actor.stop)
        return actor

    def uninstall(self) -> None:
        """Run ``kmesh uninstall``; raises LabError with its words when it fails."""
        command = [sys.executable, "-m", "kmesh", "uninstall", "--bpf-fs-path", str(self.bpffs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise LabError(f"kmesh uninstall: {done.stderr.strip() or done.returncode}")

    def pins(self) -> list[str]:
        """Everything below ``<bpffs>/kmesh``."""
        root = self.bpffs / "kmesh"
        return sorted(str(path.relative_to(self.bpffs)) for path in root.rglob("*"))

    def until(
        self, condition: Callable[[], bool], what: str, within: float = READY_WITHIN
    ) -> float:
        """Look until it is true; gives the seconds it took, raises LabError after ``within``."""
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > within:
                raise LabError(f"waited {within:g} s in vain until {what}", ADVICE)
            time.sleep(POLL)
        return time.monotonic() - start

    def clear(self) -> None:
        """Undo everything, the last first; goes on after a failure and raises it at the end."""
        with self._held():
            self._undo.close()

    def leftovers(self) -> list[str]:
        """What is still there, in words."""
        left = [f"namespace {name}" for name in netns.existing(self.name)]
        left += [f"process {one.name}" for one in self.actors if one.process.poll() is None]
        left += [f"file {self.directory}"] if self.directory.exists() else []
        mounts = Path("/proc/mounts").read_text()
        left += [f"mount below {self.directory}"] if f" {self.directory}/" in mounts else []
        return left

    def _failure(self, actor: Actor, what: str) -> KmeshError:
        return LabError(f"{actor.name} {what}: {' | '.join(actor.tail()[-3:])}", ADVICE)


def _first_line(actor: Actor) -> str:
    stdout = actor.process.stdout
    assert stdout is not None, "its output was asked for"
    ready, _, _ = select.select([stdout], [], [], READY_WITHIN)
    return stdout.readline() if ready else ""


def _call(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, start_new_session=True
    )
    if done.returncode != 0:
        raise LabError(
            f"{' '.join(command)}: {done.stderr.strip()}", "The demo needs root with CAP_SYS_ADMIN."
        )
