"""Servers of a lab as processes: started detached, known by pid and start time, ended with care."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kmesh.errors import LabError
from kmesh.lab import netns

if TYPE_CHECKING:
    from kmesh.lab.spec import Pod

READY_WITHIN = 20.0  # seconds
GRACE = 3.0  # seconds between SIGTERM and SIGKILL


class Started(NamedTuple):
    """A process beyond doubt: a pid alone may be another process tomorrow.

    ``start`` is in clock ticks since boot.
    """

    pid: int
    start: int


def identify(pid: int) -> Started | None:
    """Identity of a live process; None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    after_name = stat.rpartition(")")[2].split()
    return None if after_name[0] in "ZX" else Started(pid, int(after_name[19]))


def alive(started: Started) -> bool:
    """Whether exactly this process still runs."""
    return identify(started.pid) == started


def end(started: Started) -> bool:
    """End exactly this process and wait until it is gone; False when it was gone already."""
    try:
        descriptor = os.pidfd_open(started.pid)
    except ProcessLookupError:
        return False
    try:
        if not alive(started):
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                signal.pidfd_send_signal(descriptor, number)
            except ProcessLookupError:
                return True
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if poll.poll(GRACE * 1000):
                return True
    finally:
        os.close(descriptor)
    raise LabError(f"process {started.pid} does not end", "See what it does: /proc/<pid>/stack.")


class Starting:
    """A server on its way up. It serves only once :meth:`release` says that it is recorded:
    if this process dies before that, the server finds its pipe closed and exits."""

    def __init__(self, pod: Pod, log: Path, *, ipv6: bool) -> None:
        self._pod, self._log = pod, log
        self._ours, theirs = socket.socketpair()
        addresses = [one for one in pod.addresses if ipv6 or ":" not in one]
        server = [sys.executable, "-m", "kmesh.lab.echo", pod.netns, pod.name]
        server.append(str(theirs.fileno()))
        inside = ["nsenter", f"--net={netns.path(pod.netns)}", *server]
        ports = [str(port) for port in pod.ports]
        # The shell leaves at once: the server belongs to init and never becomes our zombie.
        command = ["sh", "-c", '"$@" &', "sh", *inside, ",".join(addresses), ",".join(ports)]
        with theirs, log.open("ab") as errors:
            subprocess.run(
                command,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )

    def wait(self) -> Started:
        """Return once the server listens; raises LabError with its last words."""
        self._ours.settimeout(READY_WITHIN)
        try:
            words = self._ours.recv(64).decode().split()
        except TimeoutError as error:
            raise self._failure("is not ready in time") from error
        started = identify(int(words[1])) if len(words) == 2 else None
        if started is None:
            raise self._failure("died while starting")
        return started

    def release(self) -> None:
        """Let it serve for good."""
        self._ours.sendall(b"go\n")
        self._ours.close()

    def cancel(self) -> None:
        """Let it exit if it was not released."""
        self._ours.close()

    def _failure(self, what: str) -> LabError:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return LabError(
            f"the server of {self._pod.name} {what}: {lines[-1] if lines else 'no word'}"
        )
