"""The demo's stage: all of it is undone, whatever happens on it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmesh.errors import LabError
from kmesh.lab import stage as module
from kmesh.lab.interrupts import Interrupted, Interrupts
from kmesh.lab.stage import Stage
from tests.lab.conftest import MESH

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts and namespaces need root"),
]


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage(Interrupts())
    yield made
    made.clear()
    assert made.leftovers() == []


def test_open_and_clear(stage: Stage) -> None:
    stage.open(MESH)
    assert stage.mesh.read_text() == MESH
    assert f" {stage.bpffs} bpf " in Path("/proc/mounts").read_text()
    stage.lab.up(stage.mesh)
    assert stage.leftovers()
    stage.clear()
    assert stage.leftovers() == []


def test_a_mount_that_fails_undoes_what_was_made(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "bpffs", stage.directory / "missing" / "bpf")
    with pytest.raises(FileNotFoundError):
        stage.open(MESH)
    stage.clear()
    assert stage.leftovers() == []


def test_a_signal_in_the_middle_of_a_mount(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts = Interrupts()
    stage = Stage(interrupts)
    original = module._call

    def call(*command: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        original(*command)

    monkeypatch.setattr(module, "_call", call)
    with interrupts.raised():
        with pytest.raises(Interrupted):
            stage.open(MESH)
        monkeypatch.setattr(module, "_call", original)
        assert stage.leftovers()
        with pytest.raises(Interrupted):  # umount sends one too: told when all is undone
            stage.clear()
    assert stage.leftovers() == []


def test_actors_are_ended_and_their_words_kept(stage: Stage) -> None:
    stage.open(MESH)
    with pytest.raises(LabError, match="nonsense did not get ready"):
        _nonsense(stage)
    (actor,) = stage.actors
    assert actor.process.wait(20) != 0
    assert actor.tail()


def _nonsense(stage: Stage) -> None:
    actor = stage._start("nonsense")
    actor.process.wait(20)
    raise stage._failure(actor, "did not get ready")


def test_until_gives_up(stage: Stage) -> None:
    with pytest.raises(LabError, match="in vain until pigs fly"):
        stage.until(lambda: False, "pigs fly", within=0.05)
    assert stage.until(lambda: True, "now") < 20


def test_another_process_sees_no_private_mount_after_clear(stage: Stage) -> None:
    stage.open(MESH)
    stage.clear()
    seen = subprocess.run(["cat", "/proc/self/mounts"], check=True, capture_output=True, text=True)
    assert str(stage.directory) not in seen.stdout
