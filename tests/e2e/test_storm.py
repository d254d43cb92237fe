"""Many quick kills and starts: nothing piles up, and the last agent is as the first."""

from __future__ import annotations

import random
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.agent import environment
from tests.e2e.peers import pod as workload
from tests.e2e.peers import policy, service
from tests.kernel.mesh import dial
from tests.waiting import until

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
STORM, MOST_LIFE = 6, 1.5


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
    before = agent.held()
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
    until(lambda: agent.held().no_more_than(before), lambda: (agent.held(), before))
    told = agent.audit()
    assert (told["differences"], told["exceptions"]) == ({}, [])
