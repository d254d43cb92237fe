"""The agent of the soak: started and ended on the same pins, as one build or the other."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._agent import Client
from benchmarks._stage import Failed, Place
from tests import held

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks._stage import Stage

WITHIN = 60.0  # seconds until it answers, or is in sync
POLL = 0.02
WAYS = ("ended", "killed", "replaced", "storm")
STORM, MOST_LIFE = 6, 3.0  # kills in a row, and seconds that the agent lives before each


class Agent:
    """``builds`` are folders to import kmesh from; the first is this one."""

    def __init__(
        self,
        stage: Stage,
        address: str,
        pods: Path,
        builds: list[str],
        seed: int,
        *options: str,
        name: str = "agent",
    ) -> None:
        self.ways = Counter[str]()
        self.differences = Counter[str]()
        self.answer_seconds: list[float] = []
        self.adopt_seconds: list[float] = []
        self.ends = 0
        self.held: list[tuple[int, held.Held]] = []  # of this build, with how often it had ended
        self._stage, self._dice = stage, random.Random(seed)
        self._builds, self._turns = builds, 0
        self._cgroup = stage.cgroup(name)
        run_dir = stage.folder / f"{name}-run"
        self.client = Client(run_dir / "kmesh.sock")
        self.bpffs = stage.mount(f"{name}-bpf", "-t", "bpf", "bpf")
        self._command = [
            sys.executable, "-m", "kmesh", "daemon", "--run-dir", str(run_dir),
            "--bpf-fs-path", self.bpffs,
            "--cgroup2-path", stage.mount(f"{name}-cgroup2", "--bind", str(pods)),
            "--xds-address", f"http://{address}", "--node-name", "n1", "--audit-interval", "1",
            "--admin-address", "", "--metrics-address", "", "--probe-address", "", *options,
        ]  # fmt: skip
        self._process = self._start()

    def restart(self, way: str = "", workloads: int = 0) -> dict[str, Any]:
        """End it in one of the ways, start it again, and wait until it is in sync; its state."""
        way = way or self._dice.choice(WAYS)
        self.ways[way] += 1
        self._note_audit()
        self.end(signal.SIGTERM if way in ("ended", "replaced") else signal.SIGKILL)
        if way == "replaced":
            self._turns += 1
        begun = time.monotonic()
        self._process = self._start()
        for _ in range(STORM if way == "storm" else 0):
            time.sleep(self._dice.uniform(0.05, MOST_LIFE))
            self.end(signal.SIGKILL)
            self._process = self._start()
        self._wait(lambda _: True)
        self.answer_seconds.append(time.monotonic() - begun)
        state = self.wait_synced(workloads)
        self.adopt_seconds.append(time.monotonic() - begun)
        self._look()
        return state

    def _look(self) -> None:
        """Note what it holds, if it is this build: another's tables have other sizes."""
        if self._build() == self._builds[0]:
            now = held.look(Path(self.bpffs) / "kmesh", self._process.pid)
            self.held.append((self.ends, now))

    def wait_synced(self, workloads: int = 0) -> dict[str, Any]:
        """Until the kernel holds all that the control plane said, so many workloads at least; its
        state. Raises Failed."""
        return self._wait(
            lambda state: state["synced"] and state["planner"]["workloads"] >= workloads
        )

    def _wait(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + WITHIN
        while True:
            state = self._state()
            if state is not None and holds(state):
                return state
            if self._process.poll() is not None:
                status, words = self._process.returncode, self._stage.last_words(self._process)
                raise Failed(f"the agent ended with status {status}: {words}")
            if time.monotonic() > deadline:
                raise Failed(f"not in sync: {state}\n{self._stage.last_words(self._process)}")
            time.sleep(POLL)

    def end(self, number: signal.Signals) -> None:
        """End it. Raises Failed when it does not end in good order."""
        self.ends += 1
        self._process.send_signal(number)
        try:
            self._process.communicate(timeout=WITHIN)
        except subprocess.TimeoutExpired:
            raise Failed(f"the agent does not end: {self._words()}") from None
        if number == signal.SIGTERM and self._process.returncode:
            raise Failed(f"the agent ended with status {self._process.returncode}: {self._words()}")

    def _words(self) -> str:
        return self._stage.last_words(self._process)

    def _note_audit(self) -> None:
        state = self._state()
        for table, kinds in (state or {}).get("audit", {}).get("differences", {}).items():
            self.differences[table] += sum(kinds.values())

    def _state(self) -> dict[str, Any] | None:
        try:
            return self.client.state()
        except (OSError, HTTPException):
            self.client.close()
            return None

    def _start(self) -> subprocess.Popen[str]:
        command = ["env", f"PYTHONPATH={self._build()}", *self._command]
        return self._stage.start(command, Place(cgroup=self._cgroup))

    def _build(self) -> str:
        return self._builds[self._turns % len(self._builds)]
