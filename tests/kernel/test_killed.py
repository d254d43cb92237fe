"""SIGKILL between two operations on the pinned maps: what connections meet, and who comes next.

Every operation of a long plan is tried in tests/core/test_killed.py, on tables in memory. On the
kernel's the suite tries some of the same plan, ``./run faults`` all (KMESH_TEST_EVERY_KILL=1).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.bpf import removal
from tests.core.test_killed import KINDS
from tests.held import Held
from tests.kernel import faulty
from tests.kernel.every_kill import OPERATIONS
from tests.kernel.killed import OLD
from tests.kernel.mesh import SMALL, Mesh, dial
from tests.kernel.net import namespace
from tests.kernel.pinned import ADDRESSES

if TYPE_CHECKING:
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(400)]
ENDS = {"old": {"10.1.0.1:1001", "10.1.0.2:1001"}, "new": {"10.1.0.3:1002", "10.1.0.4:1002"}}
EVERY = int(os.environ.get("KMESH_TEST_EVERY_KILL", "20"))
GROWTH = 4096  # KiB for which no trial needs to be to blame; 1,000 that lose 10 KiB are beyond


def agent(bpffs: str, pod: Namespace, mesh: str, operations: int) -> tuple[int, int]:
    """(exit status, operations) of an agent that brings a mesh into the kernel."""
    command = [sys.executable, "-m", "tests.kernel.killed", bpffs, mesh, str(operations), pod.path]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    return done.returncode, int(done.stdout or 0)


def test_killed_between_operations_the_next_agent_gets_there(
    bpffs: str, pod: Namespace, servers: Servers
) -> None:
    for last, port in ((1, 1001), (2, 1001), (3, 1002), (4, 1002)):
        servers.tcp(f"10.1.0.{last}", port)
    first = Mesh(bpffs, SMALL)
    try:
        first.steering.start_guarding()
        first.put(*OLD)
        first.tables.remember(pod.cookie, pod.path)
        first.enrol(pod)
        first.plane.close()
        status, whole = agent(bpffs, pod, "new", 1000)
        assert status == 0
        assert whole > 20
        for number, operations in enumerate((whole // 3, 2 * whole // 3)):
            goal = ("old", "new")[number % 2]
            status, _ = agent(bpffs, pod, goal, operations)
            assert status == -signal.SIGKILL
            for _ in range(8):
                assert dial(pod, "10.9.0.1", 80) in ENDS["old"] | ENDS["new"]
            assert agent(bpffs, pod, goal, 1000)[0] == 0
            assert {dial(pod, "10.9.0.1", 80) for _ in range(8)} <= ENDS[goal]
    finally:
        removal.remove(bpffs)


def many(bpffs: str, module: str, *options: str) -> dict[str, Any]:
    """What a module found that goes through many operations, with three pods."""
    with ExitStack() as stack:
        pods = [stack.enter_context(namespace(*ADDRESSES)).path for _ in range(3)]
        command = [sys.executable, "-m", f"tests.kernel.{module}", bpffs, *options, *pods]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=380)
    assert done.returncode == 0
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_killed_at_every_operation_of_a_thousand(bpffs: str) -> None:
    found = many(bpffs, "every_kill", str(EVERY))
    assert found["operations"] >= OPERATIONS
    assert found["killed"] == found["operations"] // EVERY
    assert found["connections"] > 2 * found["killed"]
    assert {*found["kinds"]} >= KINDS
    steady(found["held"])


def steady(marks: list[list[int]]) -> None:
    """Nothing grows from one look to the next: see Rig.held."""
    first, *later = (Held(*mark) for mark in marks)
    for mark in later:
        assert mark.no_more_than(first), marks
        assert mark.resident_kib - first.resident_kib < GROWTH, marks


def test_one_call_in_ten_fails_and_it_gets_there(bpffs: str) -> None:
    found = many(bpffs, "faulty")
    assert found["operations"] >= faulty.OPERATIONS
    assert found["faults"] > faulty.OPERATIONS // 20
    assert found["connections"] > 0
    steady(found["held"])
