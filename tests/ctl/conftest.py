"""A cluster of stand-ins: kubectl, and agents on 127.0.0.1."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.ctl.main import main
from tests.cli.agents import fake_tcp_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.agents import FakeAgent

VERSION = {
    "gitVersion": "v0.1.0", "gitCommit": "abc", "gitTreeState": "clean", "buildDate": "unknown",
    "goVersion": "", "compiler": "CPython", "platform": "linux/amd64",
}  # fmt: skip
SWITCHES = ("/accesslog", "/monitoring", "/workload_metrics", "/connection_metrics", "/authz")


def answers() -> dict[str, Any]:
    """What every agent answers at first; POST gives what GET gives, which nobody reads."""
    return {"/version": VERSION, **{path: {"enable": path == "/authz"} for path in SWITCHES}}


class Cluster:
    """The stand-in's file, and the agents of its pods."""

    def __init__(self, path: Path, program: Path, agents: dict[str, FakeAgent]) -> None:
        self.path, self.program, self.agents = path, program, agents
        self.write(agents={name: agent.address for name, agent in agents.items()})

    def write(self, **parts: Any) -> None:
        """Change parts of the cluster."""
        self.path.write_text(json.dumps({**self.read(), **parts}))

    def read(self) -> dict[str, Any]:
        """The cluster as it is."""
        found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return found

    def run(self, *words: str) -> int:
        """One call of kmeshctl."""
        return main(["--kubectl", str(self.program), *words])


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two agents, kmesh-a and kmesh-b."""
    program = tmp_path / "kubectl"
    script = Path(__file__).with_name("kubectl.py")
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("KMESH_TEST_CLUSTER", str(tmp_path / "cluster.json"))
    with contextlib.ExitStack() as stack:
        agents = {
            name: stack.enter_context(fake_tcp_agent(answers())) for name in ("kmesh-a", "kmesh-b")
        }
        yield Cluster(tmp_path / "cluster.json", program, agents)
