"""Another build takes over, with other tables or with the same: no connection notices."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.layout import META_SIZE
from kmesh.bpf import lib
from kmesh.cli.client import Client
from tests import other_build
from tests.e2e.agent import environment
from tests.e2e.peers import pod as workload
from tests.e2e.peers import policy, service
from tests.held import linked
from tests.kernel.mesh import dial
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane, PlaneProcess
    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
VIP, SERVER, FRIEND, STRANGER = "10.9.0.1", "10.1.0.1", "10.1.0.2", "10.1.0.3"
ONE = f"{SERVER}:8080"
MESH = (
    workload("client", SERVER, of="default/web"),
    workload("friend", FRIEND),
    service("default/web", VIP),
    policy("a", {"sourceIps": [f"{FRIEND}/32"]}),
)


@pytest.fixture(scope="module")
def wider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build with wider tables."""
    return other_build.make(tmp_path_factory.mktemp("wider"), other_build.WIDER)


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build in which a field has another name."""
    return other_build.make(tmp_path_factory.mktemp("renamed"), other_build.RENAMED)


class Traffic:
    """In a thread: to the service, by a client that policies let in, by one that they keep out."""

    def __init__(self, pod: Namespace) -> None:
        self.rounds, self.wrong = 0, list[str]()
        self._pod, self._stop = pod, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def more(self, count: int) -> None:
        """Wait for so many further rounds."""
        goal = self.rounds + count
        until(lambda: self.rounds >= goal or bool(self.wrong), lambda: self.rounds)

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            self._expect("service", self._dial(), ONE)
            self._expect("friend", self._reach(FRIEND), 0)
            self._expect("stranger", self._reach(STRANGER), errno.ECONNREFUSED)
            self.rounds += 1

    def _expect(self, who: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.wrong.append(f"{who}: {found}")

    def _dial(self) -> str:
        try:
            return dial(self._pod, VIP, 80)
        except OSError as error:
            return repr(error)

    def _reach(self, client: str) -> int:
        with self._pod.socket() as dialler:
            dialler.bind((client, 0))
            return dialler.connect_ex((SERVER, 8080))


@pytest.fixture
def running(agent: Agent, plane: Plane, pod: Namespace, servers: Servers) -> Iterator[Agent]:
    """An agent in sync, its pod enrolled and guarded, a switch thrown."""
    plane.apply(*MESH)
    agent.start_synced()
    agent.enrol(pod)
    agent.until(lambda state: len(state["authorization"]["pods"]) == 1)
    plane.until_answered()
    Client(str(agent.run_dir)).post("/switches", body={"sample": 50.0})
    yield agent


def fingerprint(agent: Agent) -> bytes:
    fd = lib.pinned(f"{agent.bpffs}/kmesh/maps/km_meta")
    assert fd is not None
    try:
        return bytes(lib.lookup(fd, bytes(4), META_SIZE) or b"")[:32]
    finally:
        os.close(fd)


def ids(agent: Agent) -> dict[str, int]:
    """Of the pinned maps."""
    found = {}
    for path in Path(agent.bpffs, "kmesh/maps").iterdir():
        fd = lib.pinned(str(path))
        assert fd is not None
        found[path.name] = lib.map_info(fd).id
        os.close(fd)
    return found


def replace(agent: Agent, source: Path | None) -> None:
    """SIGKILL, and another build at once."""
    agent.kill()
    agent.source = source
    agent.start_synced()


def test_tables_of_another_layout_are_carried_over_in_both_directions(
    running: Agent, pod: Namespace, wider: Path
) -> None:
    before, rows, held = fingerprint(running), running.kernel(), running.held()
    with Traffic(pod) as traffic:
        traffic.more(10)
        for build in (wider, None, wider, None):
            old = ids(running)
            replace(running, build)
            traffic.more(20)
            retired = set(old.values()) - set(ids(running).values())
            assert retired
            until(lambda gone=retired: not any(map(lib.has_map, gone)), running.tail)  # type: ignore[misc]
            state = running.state()
            assert (fingerprint(running) == before) == (build is None)
            assert state["observability"]["switches"]["sample"] == 50.0
            assert running.row(pod)["enrolled"]
            assert state["waits"] == []
    assert traffic.wrong == []
    assert running.kernel() == rows
    until(lambda: running.held().no_more_than(held), lambda: (running.held(), held))


def test_the_same_layout_by_another_process_changes_programs_only(
    running: Agent, pod: Namespace
) -> None:
    maps = ids(running)
    with Traffic(pod) as traffic:
        traffic.more(10)
        replace(running, None)
        traffic.more(20)
    assert traffic.wrong == []
    assert ids(running) == maps


OUTRUN = """
import sys
from kmesh.bpf import lib
from kmesh.cli.main import main
from kmesh.errors import BpfError
replace, left = lib.replace_program, [5]
def failing(*arguments):
    left[0] -= 1
    if left[0] == 0:
        raise BpfError("a stranger was here", 1)
    replace(*arguments)
lib.replace_program = failing
sys.exit(main())
"""


def test_a_build_that_cannot_replace_a_program_ends_with_the_reason_and_the_old_goes_on(
    running: Agent, pod: Namespace
) -> None:
    links = Path(running.bpffs, "kmesh/links")
    maps, programs = ids(running), linked(links)
    with Traffic(pod) as traffic:
        traffic.more(10)
        running.kill()
        command = [sys.executable, "-c", OUTRUN, *running.command()[3:]]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=False, timeout=60
        )
        traffic.more(20)
    assert done.returncode == 1
    words = " ".join(done.stderr.split())
    assert "KM1106" in words
    assert "a stranger was here; all links keep" in words
    assert (ids(running), linked(links)) == (maps, programs)
    assert traffic.wrong == []
    running.start_synced()


def test_tables_that_cannot_be_carried_over_are_filled_before_the_switch(
    far_agent: Agent, far_plane: PlaneProcess, pod: Namespace, servers: Servers, renamed: Path
) -> None:
    agent, plane = far_agent, far_plane
    plane.write(*MESH)
    plane.start()
    agent.start_synced()
    agent.enrol(pod)
    agent.until(lambda state: len(state["authorization"]["pods"]) == 1)
    agent.until(lambda state: state["synced"])
    before = fingerprint(agent)
    with Traffic(pod) as traffic:
        traffic.more(10)
        # Nobody can fill the tables: the old programs go on with theirs.
        plane.kill()
        agent.kill()
        agent.source = renamed
        agent.start()
        assert agent.state()["waits"] == ["services"]
        traffic.more(20)
        assert fingerprint(agent) == before
        # Killed while it waits: nothing is lost, and the next one waits again.
        agent.kill()
        traffic.more(10)
        agent.start()
        assert agent.state()["waits"] == ["services"]
        plane.start()
        agent.until(lambda state: state["synced"] and not state["waits"])
        assert fingerprint(agent) != before
        traffic.more(20)
        replace(agent, None)
        agent.until(lambda state: not state["waits"])
        assert fingerprint(agent) == before
        traffic.more(20)
    assert traffic.wrong == []
