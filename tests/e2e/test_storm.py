"""Many quick kills and starts: nothing piles up, and the last agent is as the first."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmesh.bpf import lib, query
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


def held(agent: Agent) -> tuple[list[str], int, int]:
    """(pins, programs in the kernel that use one of our maps, open files of the agent)."""
    root = Path(agent.bpffs) / "kmesh"
    pins = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    ours = set()
    for pin in (root / "maps").iterdir():
        fd = lib.pinned(str(pin))
        assert fd is not None
        with contextlib.closing(os.fdopen(fd)):
            ours.add(lib.map_info(fd).id)
    programs = sum(bool(ours & set(lib.program_maps(each.id))) for each in query.programs())
    assert agent.process is not None
    return pins, programs, len(os.listdir(f"/proc/{agent.process.pid}/fd"))


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
    before = held(agent)
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
    until(lambda: held(agent) == before, lambda: (held(agent), before))
    told = agent.audit()
    assert (told["differences"], told["exceptions"]) == ({}, [])
