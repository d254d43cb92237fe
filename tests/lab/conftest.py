"""A small mesh and a lab of its own for each test; whatever a test does, nothing stays."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from kmesh.lab import netns
from kmesh.lab.lab import Lab
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

MESH = """\
workloads:
- {name: client, namespace: n, node: lab, workloadIps: [10.1.0.1, "fd00:1::1"], services: {}}
- {name: web, namespace: n, node: lab, workloadIps: [10.1.0.2, "fd00:1::2"],
   services: {n/web.n: {80: 8080}}}
- {name: far, namespace: n, node: other, workloadIps: [10.2.0.1], services: {n/web.n: {80: 80}}}
- {name: host, namespace: n, node: lab, workloadIps: [10.1.0.9], networkMode: HostNetwork,
   services: {}}
services:
- {name: web, namespace: n, hostname: web.n, vips: [/10.96.0.1, "/fd00:96::1"], ports: {80: 80}}
"""
NUMBERS = itertools.count()


class Place(NamedTuple):
    """Everything a test needs to make a lab."""

    run_dir: Path
    name: str
    mesh: Path

    def lab(self) -> Lab:
        """A fresh view on the lab, as another process would have it."""
        return Lab(self.run_dir, self.name)

    def edit(self, old: str, new: str) -> None:
        """Change the mesh file."""
        text = self.mesh.read_text()
        assert old in text
        self.mesh.write_text(text.replace(old, new))

    def assert_nothing_left(self) -> None:
        """No namespace, no process, no file of this lab."""
        assert netns.existing(self.name) == []
        self.assert_processes(0)
        assert not list(self.run_dir.rglob("*"))

    def assert_processes(self, count: int) -> None:
        """So many servers run, now or soon: one that lost its starter still has to notice."""
        word = f"kmesh-{self.name}-"
        until(lambda: len(processes_with(word)) == count, lambda: processes_with(word))


def processes_with(word: str) -> list[str]:
    """Command lines of processes, this one left out, that carry a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if word in command and path.parent.name != str(os.getpid()):
            found.append(command)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A mesh file and a lab's name; the lab is taken down afterwards."""
    run_dir, mesh = tmp_path / "run", tmp_path / "mesh.yaml"
    mesh.write_text(MESH)
    made = Place(run_dir, f"t{os.getpid()}x{next(NUMBERS)}", mesh)
    yield made
    made.lab().down()
    made.assert_nothing_left()
