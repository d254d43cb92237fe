"""Many quick kills and starts: nothing piles up, and the last agent is as the first."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests import held
from tests.e2e.agent import environment, until
from tests.e2e.peers import pod as workload
from tests.e2e.peers import policy, service
from tests.kernel.mesh import dial

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
STORM, MOST_LIFE = 6, 1.5
MAPS_KIB, RESIDENT_KIB = 1024, 8192


class Held(NamedTuple):
    """What must be the same after a storm, and what may differ a little."""

    pins: tuple[str, ...]
    programs: int
    files: int
    map_kib: int
    resident_kib: int

    def like(self, other: Held) -> bool:
        """Rows of connections and the allocator's moods are allowed for: far less than one start
        takes anew."""
        close = abs(self.map_kib - other.map_kib) < MAPS_KIB
        close &= abs(self.resident_kib - other.resident_kib) < RESIDENT_KIB
        return close and self[:3] == other[:3]


def look(agent: Agent) -> Held:
    assert agent.process is not None
    pid, found = agent.process.pid, held.kernel(Path(agent.bpffs) / "kmesh")
    return Held(
        found.pins, found.programs, held.files(pid), found.map_kib, held.resident_kib(pid)
    )  # fmt: skip


def test_a_storm_of_restarts_leaves_nothing_behind(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(
        workload("client", "10.1.0.9"), workload("first", "10.1.0.1", of="default/web"),
        service("default/web", "10.9.0.1"), policy("p", {"destinationPorts": [8080]}),
    )  # fmt: skip
    agent.start_synced()
    agent.enrol(pod)
    agent.until(lambda state: len(state["authorization"]["pods"]) == 1)
    agent.stop()
    agent.start_synced()
    before = look(agent)
    agent.kill()
    dice = random.Random(5)
    for _ in range(STORM):
        process = subprocess.Popen(
            agent.command(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
        )
        time.sleep(dice.uniform(0.1, MOST_LIFE))  # anywhere between import and sync
        process.kill()
        process.wait()
        assert dial(pod, "10.9.0.1", 80) == "10.1.0.1:8080"
    agent.start_synced()
    until(lambda: look(agent).like(before), lambda: (look(agent), before))
    told = agent.audit()
    assert (told["differences"], told["exceptions"]) == ({}, [])
