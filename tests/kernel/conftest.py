"""Real programs on this kernel, in a private bpffs; everything is removed afterwards."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mesh import SMALL, Mesh
from tests.kernel.net import Servers, namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kernel.net import Namespace

ADDRESSES = (
    "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.9", "fd01::1", "fd01::2", "fd01::3",
)  # fmt: skip


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[str]:
    """A bpffs of the test's own. These tests need root: without it they fail, not skip."""
    assert os.geteuid() == 0, "kernel tests need root"
    where = tmp_path / "bpffs"
    where.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(where)], check=True)
    try:
        yield str(where)
    finally:
        subprocess.run(["umount", str(where)], check=True)


@pytest.fixture
def pod() -> Iterator[Namespace]:
    """A namespace with every address of the tests on its loopback, and no route out."""
    with namespace(*ADDRESSES) as made:
        yield made


@pytest.fixture
def servers(pod: Namespace) -> Iterator[Servers]:
    """Servers inside ``pod``."""
    made = Servers(pod)
    yield made
    made.close()


@pytest.fixture
def mesh(bpffs: str) -> Iterator[Mesh]:
    """The data plane, steered by a planner of the test's own."""
    made = Mesh(bpffs, SMALL)
    yield made
    made.close()
