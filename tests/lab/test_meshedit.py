"""Edits of a mesh file keep what they do not touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kmesh.controlplane.file import load
from kmesh.errors import LabError
from kmesh.lab.meshedit import add_workload, remove_workload
from tests.lab.conftest import MESH

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mesh.yaml"
    path.write_text("# a comment\n" + MESH)
    return path


def test_remove(path: Path) -> None:
    before = load(path)
    remove_workload(path, "web")
    after = load(path)
    assert after.services == before.services
    assert after.workloads == tuple(one for one in before.workloads if one.name != "web")
    assert path.read_text().startswith("# a comment\n")


def test_add(path: Path) -> None:
    before = load(path)
    add_workload(path, "web", "web-9", ["10.1.0.99"])
    new = load(path).workloads[-1]
    old = before.workloads[1]
    assert load(path).workloads[:-1] == before.workloads
    assert (new.name, new.uid) == ("web-9", "Kubernetes//Pod/n/web-9")
    assert new.memberships == old.memberships
    assert new.addresses != old.addresses


def test_a_uid_is_derived_too(path: Path) -> None:
    path.write_text(path.read_text().replace("name: web, n", "uid: c//Pod/n/web, name: web, n", 1))
    add_workload(path, "web", "web-9", ["10.1.0.99"])
    assert load(path).workloads[-1].uid == "c//Pod/n/web-9"


def test_nobody(path: Path) -> None:
    with pytest.raises(LabError, match="no workload 'x'"):
        remove_workload(path, "x")
