"""Faults around a whole agent: connections go on, it gets there, and holds no more than before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from tests.e2e import agent as agents
from tests.e2e.agent import Dialler
from tests.e2e.peers import pod as workload
from tests.e2e.peers import policy, service
from tests.kernel.disk import small
from tests.kernel.mesh import dial
from tests.tasks.cutter import Proxy
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
VIP, OTHER = "10.9.0.1", "10.9.0.2"
WEB = (
    workload("client", "10.1.0.9"), service("default/web", VIP),
    workload("web", "10.1.0.1", of="default/web"),
)  # fmt: skip
MESSAGES = 8


def mesh(step: int) -> list[dict[str, object]]:
    """One service stays, another moves, and so does a policy."""
    return [
        *WEB, service("default/other", OTHER),
        workload(f"other-{step}", f"10.1.0.{2 + step % 2}", of="default/other"),
        policy(f"p{step}", {"destinationPorts": [9000 + step]}),
    ]  # fmt: skip


def test_the_stream_is_cut_at_every_message(
    tmp_path: Path, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(*mesh(0))
    proxy = Proxy(MESSAGES, int(plane.address.rpartition(":")[2]), calm=1)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(proxy.serving()) as port,
        agents.agent(tmp_path, f"http://127.0.0.1:{port}") as agent,
    ):
        agent.start_synced()
        agent.enrol(pod)
        agent.until(lambda state: len(state["authorization"]["pods"]) == 1)
        before = agent.held()
        with Dialler(pod, VIP, 80) as dialler:
            agent.kill()
            agent.start()
            for step in range(1, 1000):
                plane.apply(*mesh(step))
                dialler.more(5)
                if proxy.cuts == MESSAGES:
                    break
            assert proxy.cuts == MESSAGES
            plane.apply(*mesh(0))
            agent.until(lambda state: state["synced"] and not state["failing"])
            until(lambda: dial(pod, OTHER, 80) == "10.1.0.2:8080", agent.tail)
        assert dialler.failures == []
        told = agent.audit()
        assert (told["differences"], told["exceptions"]) == ({}, [])
        until(lambda: agent.held().no_more_than(before), lambda: (agent.held(), before))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The run directory on a file system with room for a few files."""
    with small(tmp_path / "run", "64k") as made:
        yield made


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    with pytest.raises(OSError, match="No space left"), (disk / "full").open("wb", 0) as file:
        while True:
            file.write(bytes(4096))
    return disk / "full"


def test_a_full_disk_costs_the_state_file_alone(
    small_disk: Path, agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(*mesh(0))
    agent.start_synced()
    full = fill(small_disk)
    agent.enrol(pod)
    failed = agent.until(lambda state: state["state_file"]["failed"])["state_file"]["failed"]
    before = agent.held()
    with Dialler(pod, VIP, 80) as dialler:
        plane.apply(*mesh(1))
        until(lambda: dial(pod, OTHER, 80) == "10.1.0.3:8080", agent.tail)
        agent.until(lambda state: state["state_file"]["failed"] > failed + 1)
        until(lambda: agent.held().no_more_than(before), lambda: (agent.held(), before))
        # The next one finds nothing there, and takes over what the kernel has all the same.
        agent.kill()
        agent.start_synced()
        assert agent.row(pod)["enrolled"]
        dialler.more(5)
        full.unlink()
        agent.enrol(pod)
        agent.until(lambda state: state["state_file"]["written"])
        file = small_disk / "state"
        until(lambda: str(pod.cookie) in file.read_text(), agent.tail)
    assert dialler.failures == []
