"""The state file: whole or absent, one writer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kmesh.errors import LabError
from kmesh.lab.process import Started
from kmesh.lab.spec import Pod
from kmesh.lab.state import LabState, Placed, StateFile

if TYPE_CHECKING:
    from pathlib import Path

POD = Pod("a", "u", "kmesh-x-a", ("10.0.0.1",), (80,))
STATE = LabState("/m.yaml", "lab", (Placed(POD, 3, True, Started(7, 8)), Placed(POD, 4)))


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    file = StateFile(tmp_path, "x")
    assert file.load() is None
    with file.locked():
        file.save(STATE)
    assert StateFile(tmp_path, "x").load() == STATE


def test_remove_leaves_nothing(tmp_path: Path) -> None:
    file = StateFile(tmp_path, "x")
    with file.locked():
        file.save(STATE)
        file.log("a").write_text("words")
        file.remove()
    assert list(tmp_path.iterdir()) == []


def test_remove_spares_other_labs(tmp_path: Path) -> None:
    file, other = StateFile(tmp_path, "x"), StateFile(tmp_path, "xy")
    with file.locked(), other.locked():
        other.save(STATE)
        other.log("a").write_text("words")
        file.save(STATE)
        file.remove()
    assert other.load() == STATE
    assert other.log("a").exists()


def test_one_at_a_time(tmp_path: Path) -> None:
    file = StateFile(tmp_path, "x")
    with (
        file.locked(),
        pytest.raises(LabError, match="another `kmesh lab` works on x"),
        StateFile(tmp_path, "x").locked(),
    ):
        raise AssertionError("two at once")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"mesh": "", "node": "", "pods": [{}]}'])
def test_damage_is_named(text: str, tmp_path: Path) -> None:
    file = StateFile(tmp_path, "x")
    with file.locked():
        file.path.write_text(text)
    with pytest.raises(LabError, match=r"x\.json is damaged"):
        file.load()
