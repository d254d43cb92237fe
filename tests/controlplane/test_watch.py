"""Edits of a mesh file: settled, valid, told once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
import pytest

from kmesh.controlplane.watch import YOUNG_NS, Edit, FileWatch, edits

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = b"workloads: []\n"
ONE = b"workloads:\n- {name: a, namespace: n, workloadIps: [], services: {}}\n"
OTHER = ONE.replace(b"name: a", b"name: b")
BAD = b"workloads:\n- {name: a}\n"


class Watched:
    """A file with its watch; the clock is a number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(EMPTY)
        self.watch = FileWatch(path, EMPTY)

    def poll(self, later_ns: int = 0) -> Edit | None:
        return self.watch.poll(self.path.stat().st_mtime_ns + later_ns)

    def settle(self) -> Edit | None:
        assert self.poll() is None, "an edit must rest for one look before it counts"
        return self.poll()

    def names(self) -> list[str]:
        edit = self.settle()
        assert edit is not None
        assert edit.mesh is not None
        return [workload.name for workload in edit.mesh.workloads]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "mesh.yaml")


def test_nothing_changes_nothing_is_told(watched: Watched) -> None:
    assert [watched.poll() for _ in range(3)] == [None] * 3


def test_in_place_and_renamed(watched: Watched) -> None:
    watched.path.write_bytes(ONE)
    assert watched.names() == ["a"]
    new = watched.path.with_name("new")
    new.write_bytes(OTHER)
    new.replace(watched.path)
    assert watched.names() == ["b"]
    assert watched.poll() is None


def test_a_half_written_file_does_not_count(watched: Watched) -> None:
    watched.path.write_bytes(b"")
    assert watched.poll() is None
    watched.path.write_bytes(ONE[:12])
    assert watched.poll() is None
    watched.path.write_bytes(ONE)
    assert watched.names() == ["a"]


def test_an_error_is_told_once_and_heals(watched: Watched) -> None:
    watched.path.write_bytes(BAD)
    edit = watched.settle()
    assert edit is not None
    assert edit.mesh is None
    assert edit.error is not None
    assert "mesh.yaml:2: workloads[0]: the key 'workloadIps' is missing" in edit.error.sentence
    assert [watched.poll() for _ in range(3)] == [None] * 3
    watched.path.write_bytes(ONE)
    assert watched.names() == ["a"]


def test_an_edit_taken_back_heals(watched: Watched) -> None:
    watched.path.write_bytes(BAD)
    assert watched.settle() is not None
    watched.path.write_bytes(EMPTY)
    assert watched.names() == []


def test_a_missing_file_is_told_once_and_heals(watched: Watched) -> None:
    now = watched.path.stat().st_mtime_ns
    watched.path.unlink()
    edit = watched.watch.poll(now)
    assert edit is not None
    assert edit.error is not None
    assert "No such file" in edit.error.sentence
    assert watched.watch.poll(now) is None
    watched.path.write_bytes(EMPTY)
    assert watched.names() == []


def test_same_size_and_time_is_noticed_while_the_file_is_young(watched: Watched) -> None:
    watched.path.write_bytes(ONE)
    assert watched.names() == ["a"]
    times = (watched.path.stat().st_atime_ns, watched.path.stat().st_mtime_ns)
    watched.path.write_bytes(OTHER)
    os.utime(watched.path, ns=times)
    assert watched.poll(later_ns=2 * YOUNG_NS) is None
    assert watched.names() == ["b"]


@pytest.mark.anyio
async def test_the_loop_around_it(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_bytes(EMPTY)
    stream = edits(path, EMPTY, interval=0.01)
    with anyio.fail_after(20):
        path.write_bytes(BAD)
        bad = await anext(stream)
        path.write_bytes(ONE)
        good = await anext(stream)
    assert bad.error is not None
    assert good.mesh is not None
    await stream.aclose()  # type: ignore[attr-defined]
