"""An agent and a control plane for each test that asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e import agent as agents
from tests.e2e import peers
from tests.kernel.conftest import ends as ends
from tests.kernel.net import Servers, namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane, PlaneProcess
    from tests.kernel.net import Namespace

ADDRESSES = ("10.1.0.1", "10.1.0.2", "10.1.0.3", "fd01::1", "fd01::2", "fd01::3")


@pytest.fixture
def plane() -> Iterator[Plane]:
    """A control plane in this process."""
    with peers.plane() as made:
        yield made


@pytest.fixture
def agent(tmp_path: Path, plane: Plane) -> Iterator[Agent]:
    """An agent of ``plane``, not started yet."""
    with agents.agent(tmp_path, plane.address) as made:
        yield made


@pytest.fixture
def far_plane(tmp_path: Path) -> Iterator[PlaneProcess]:
    """A control plane in a process of its own, not started yet."""
    with peers.plane_process(tmp_path) as made:
        yield made


@pytest.fixture
def far_agent(tmp_path: Path, far_plane: PlaneProcess) -> Iterator[Agent]:
    """An agent of ``far_plane``, not started yet."""
    with agents.agent(tmp_path, far_plane.address) as made:
        yield made


@pytest.fixture
def pod() -> Iterator[Namespace]:
    """A namespace with every address of the tests on its loopback, and no route out."""
    with namespace(*ADDRESSES) as made:
        yield made


@pytest.fixture
def servers(pod: Namespace) -> Iterator[Servers]:
    """Servers in ``pod``: each endpoint address answers at TCP and UDP port 8080."""
    made = Servers(pod)
    try:
        for address in ADDRESSES:
            made.tcp(address, 8080)
            made.udp(address, 8080)
        yield made
    finally:
        made.close()
