"""The agent as users run it (``kmesh daemon``, real maps and programs) and its state, in numbers.

It has a bpffs of its own, its programs are on a cgroup of the stage alone, and it ends with it.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks._stage import Failed, Place, end

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from benchmarks._stage import Stage

DEADLINE = 180.0  # seconds
NODE = "gke-production-pool-0-00000"
NETWORK = "network-1"


class Client(http.client.HTTPConnection):
    """The agent's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))

    def state(self) -> dict[str, Any]:
        """GET /state."""
        found: dict[str, Any] = self._answer("GET", "/state")
        return found

    def enrol(self, netns: str, workload: str) -> None:
        """Enrol a namespace as a workload (uid). Raises Failed with the agent's words."""
        self._answer("POST", "/enrol", json.dumps({"netns": netns, "workload": workload}))

    def audit(self) -> None:
        """Let it compare what is planned with what the kernel holds, now, to the end."""
        self._answer("POST", "/audit")

    def switch(self, **wanted: Any) -> None:
        """Throw switches. Raises Failed with the agent's words."""
        self._answer("POST", "/switches", json.dumps(wanted))

    def _answer(self, method: str, path: str, body: str | None = None) -> Any:
        self.request(method, path, body)
        answer = self.getresponse()
        text = answer.read()
        self.close()  # the agent ends connections that say nothing for a while
        if answer.status >= 400:
            raise Failed(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text)


class Agent(NamedTuple):
    """A running agent; ``cgroup`` is that of the process, ``pods`` that of its programs."""

    stage: Stage
    client: Client
    process: subprocess.Popen[str]
    cgroup: Path
    pods: Path

    def wait(self, condition: Callable[[dict[str, Any]], bool], within: float = DEADLINE) -> float:
        """Until its state fulfils the condition; the seconds it took. Raises Failed."""
        start = time.monotonic()
        while not self._fulfils(condition):
            if time.monotonic() - start > within:
                raise Failed(f"the agent is not there after {within:.0f} s: {self._summary()}")
            time.sleep(0.1)
        return time.monotonic() - start

    def maps(self) -> dict[str, int]:
        """Kernel memory of each of its maps in bytes, by the kernel's accounting."""
        return map_memory(self.process.pid)

    def rss_kib(self) -> int:
        """Resident memory now."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    def _fulfils(self, condition: Callable[[dict[str, Any]], bool]) -> bool:
        if self.process.poll() is not None:
            words = self.stage.last_words(self.process)
            raise Failed(f"the agent ended with status {self.process.returncode}: {words}")
        try:
            return condition(self.client.state())
        except (ConnectionError, FileNotFoundError):
            self.client.close()
            return False

    def _summary(self) -> str:
        state = self.client.state()
        return json.dumps({key: state[key] for key in ("synced", "xds", "planner", "failing")})


@contextmanager
def running(stage: Stage, address: str, name: str = "agent", *options: str) -> Iterator[Agent]:
    """An agent with the control plane at ``host:port``; it ends with the block."""
    agent = start(stage, address, name, *options)
    try:
        yield agent
    finally:
        with stage.held():
            end(agent.process)


def start(
    stage: Stage, address: str, name: str = "agent", *options: str, pods: Path | None = None
) -> Agent:
    """An agent that ends with the stage; ``name`` is unique on the stage, ``pods`` the cgroup that
    its programs are attached to, by default an empty one."""
    pods, own = pods or stage.cgroup(f"{name}-pods"), stage.cgroup(name)
    run_dir = Path(tempfile.mkdtemp(prefix="", dir=stage.folder))  # a socket's path has 107 bytes
    command = [
        sys.executable, "-m", "kmesh", "daemon",
        "--run-dir", str(run_dir),
        "--bpf-fs-path", stage.mount(f"{name}-bpf", "-t", "bpf", "bpf"),
        "--cgroup2-path", stage.mount(f"{name}-cgroup2", "--bind", str(pods)),
        "--xds-address", f"http://{address}",
        "--network", NETWORK, "--node-name", NODE,
        "--admin-address", "", "--metrics-address", "",
        *options,
    ]  # fmt: skip
    process = stage.start(command, Place(cgroup=own))
    agent = Agent(stage, Client(run_dir / "kmesh.sock"), process, own, pods)
    agent.wait(lambda _: True)
    return agent


def synced(workloads: int, services: int) -> Callable[[dict[str, Any]], bool]:
    """Whether so many workloads and services are planned, and everything is in the kernel."""

    def whole(state: dict[str, Any]) -> bool:
        planner = state["planner"]
        counts = planner["workloads"], planner["services"]
        return bool(state["synced"]) and counts == (workloads, services)

    return whole


def map_memory(pid: int) -> dict[str, int]:
    """Bytes of each BPF map that a process has open, as ``<id> <type>`` to the kernel's count."""
    found = {}
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            fields = dict(line.split(":", 1) for line in info.read_text().splitlines())
        except FileNotFoundError:
            continue
        if "map_id" in fields:
            found[f"{fields['map_id'].strip()} {fields['map_type'].strip()}"] = int(
                fields["memlock"]
            )
    return found
