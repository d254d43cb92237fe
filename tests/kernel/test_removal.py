"""Removal takes everything, and the proof finds what was left."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmesh.bpf import lib, load, query, removal
from kmesh.errors import AlreadyRunning
from tests.core.meshes import WEB, service, workload
from tests.kernel.mesh import SMALL, Mesh

if TYPE_CHECKING:
    from tests.kernel.net import Namespace

pytestmark = pytest.mark.kernel


@pytest.fixture
def used(bpffs: str, ends: tuple[Namespace, Namespace]) -> str:
    """A bpffs as an agent leaves it: steering, guards, an enrolled pod."""
    mesh = Mesh(bpffs, SMALL)
    mesh.put(workload("server", "10.1.0.1", of=WEB), service(WEB, "10.9.0.1"))
    mesh.enrol(ends[0], "server")
    mesh.plane.close()
    return bpffs


def test_everything_is_gone_and_proven(used: str) -> None:
    removed = removal.remove(used)
    assert not Path(used, "kmesh").exists()
    assert len(removed.traces.programs) > 8
    assert len(removed.traces.maps) > 10
    assert removal.left(removed.traces, Path(used, "kmesh"), 10.0) == []
    assert removal.remove(used) == ([], removal.Traces(frozenset(), frozenset()))


def test_what_somebody_still_holds_is_found(used: str) -> None:
    fd = lib.pinned(f"{used}/kmesh/maps/km_vip")
    assert fd is not None
    try:
        number = lib.map_info(fd).id
        removed = removal.remove(used)
        assert removal.left(removed.traces, Path(used, "kmesh"), 0.5) == [f"map {number}"]
    finally:
        os.close(fd)
    assert removal.left(removed.traces, Path(used, "kmesh"), 10.0) == []


def test_a_program_that_is_still_attached_elsewhere_is_found(used: str) -> None:
    (link,) = [lib.pinned(str(path)) for path in Path(used, "kmesh/links").glob("connect4")]
    assert link is not None
    number = lib.link_info(link).program
    try:
        removed = removal.remove(used)
        left = removal.left(removed.traces, Path(used, "kmesh"), 0.5)
        assert f"program {number}" in left
        assert query.program(number) is not None
        assert removal.strangers(removal.Traces(frozenset(), frozenset())) != []
    finally:
        os.close(link)


def test_pins_that_came_meanwhile_are_found(used: str, tmp_path: Path) -> None:
    removed = removal.remove(used)
    load.start(used, "", SMALL).close()
    left = removal.left(removed.traces, Path(used, "kmesh"), 0.1)
    assert any(word.startswith("pin ") for word in left)
    removal.remove(used)


def test_a_running_agent_loses_nothing(used: str) -> None:
    mesh = Mesh(used, SMALL)
    try:
        with pytest.raises(AlreadyRunning):
            removal.remove(used)
        assert Path(used, "kmesh/maps/km_vip").exists()
    finally:
        mesh.close()


def test_state_goes_unless_an_agent_listens_there(used: str, tmp_path: Path) -> None:
    kept, mine = tmp_path / "state", tmp_path / "somebody.txt"
    kept.write_text("{}")
    mine.write_text("mine")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "kmesh.sock"))
        agent.listen()
        removal.remove(used, str(tmp_path))
        assert kept.exists()
    assert set(removal.remove(used, str(tmp_path)).paths) == {
        str(kept), str(tmp_path / "kmesh.sock"),
    }  # fmt: skip
    assert mine.exists()
