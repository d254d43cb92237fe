"""Kernel memory by the memory controller: which of the two there is, and that nothing stays."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from benchmarks import _charged
from benchmarks._stage import PREFIX, Stage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """On a machine whose cgroup2 has the controllers that the test writes."""
    made = Stage()
    made.cgroups = tmp_path / "own"
    made.cgroups.mkdir()
    (made.cgroups / "cgroup.controllers").write_text("cpu pids\n")
    return made


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where cgroup 1 would count memory."""
    path = tmp_path / "memory"
    path.mkdir()
    monkeypatch.setattr(_charged, "OLD", path)
    return path


def test_nobody_counts(stage: Stage, old: Path) -> None:
    with _charged.group(stage) as found:
        assert found is None
    assert list(old.iterdir()) == []


def test_cgroup_1_counts_and_what_a_kill_left_goes(stage: Stage, old: Path) -> None:
    (old / _charged.OLD_FILE).write_text("9\n")
    left, mine = old / f"{PREFIX}999999999", old / f"{PREFIX}{os.getpid()}"
    left.mkdir()
    with _charged.group(stage) as found:
        assert found == mine
        assert mine.is_dir()
        assert not left.exists()
    assert not mine.exists()
    (left / _charged.OLD_FILE).parent.mkdir()
    (left / _charged.OLD_FILE).write_text("4096\n")
    assert _charged.charged(left) == 4096


@pytest.mark.parametrize(
    ("rows", "bytes_"), [("anon 7\nkernel 4096\nslab 1\n", 4096), ("anon 7\nslab 2048\n", 2048)]
)
def test_cgroup_2_counts(stage: Stage, old: Path, rows: str, bytes_: int) -> None:
    (stage.cgroups / "cgroup.controllers").write_text("cpu memory pids\n")
    with _charged.group(stage) as found:
        assert found == stage.cgroups / f"{PREFIX}{os.getpid()}"
        assert (stage.cgroups / "cgroup.subtree_control").read_text() == "+memory"
        (found / "memory.stat").write_text(rows)
        assert _charged.charged(found) == bytes_
        (found / "memory.stat").unlink()
    assert not found.exists()
