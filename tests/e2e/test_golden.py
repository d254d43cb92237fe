"""Every path of the admin API and every table of the commands, as they were, at a real agent.

Where values follow from the mesh they are compared word by word, elsewhere the shape is: no key may
go, and none have a value of another kind. When something changes on purpose:
``KMESH_GOLDEN=write python -m pytest tests/e2e/test_golden.py`` writes the files again.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from kmesh.cli.client import Client
from kmesh.cli.main import main as kmesh
from kmesh.core.openapi import OPERATIONS
from kmesh.ctl.main import main as kmeshctl
from tests.e2e import agent as agents
from tests.e2e import peers
from tests.e2e.peers import free_port, policy, service
from tests.e2e.peers import pod as workload
from tests.kernel.net import namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.agent import Agent
    from tests.kernel.net import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
GOLDEN = Path(__file__).parent / "golden"
WRITE = os.environ.get("KMESH_GOLDEN") == "write"
WEB = "shop/web.shop.svc.cluster.local"
MESH = (
    workload("client", "10.1.0.1", "fd01::1"),
    workload("web", "10.1.0.2", of=WEB, namespace="shop"),
    service(WEB, "10.9.0.1", "fd09::1", ipFamilies="Dual"),
    service("shop/none.shop.svc.cluster.local", "10.9.0.2"),
    policy("a", {"sourceIps": ["10.1.0.2/32"], "destinationPorts": [8080]}),
)
WHY = {"source": "default/client", "destination": "web.shop:80"}
ASKED: dict[str, dict[str, Any]] = {
    "/why": WHY,
    "/top/service": {"key": WEB},
    "/events": {"limit": 1, "denied": 1},
    "/debug/profile": {"kind": "loop", "seconds": 0.1},
    "/debug/loggers": {"name": "default"},
}
WORDED = {
    "/accesslog", "/authz", "/avoid", "/config_dump", "/connection_metrics",
    "/debug/config_dump/bpf/dual-engine", "/debug/config_dump/dual-engine", "/debug/loggers",
    "/debug/ready", "/debug/resources", "/events", "/monitoring", "/switches", "/why",
    "/workload_metrics",
}  # fmt: skip
SHAPED = {
    "/audit", "/debug/links", "/debug/maps", "/debug/planned", "/debug/profile", "/debug/queues",
    "/debug/tasks", "/diff", "/openapi.json", "/state", "/top", "/top/service", "/version",
}  # fmt: skip
DOCUMENT = {"/"}  # the page: tests/page
CHANGES = re.compile(
    r"(?P<time>\d\d:\d\d:\d\d\.\d+)|(?P<port>(?<=:)\d{5}\b)|(?P<seconds>(?<=over )\d+\.\d(?= s))"
)


class Running:
    """One agent for all tests: they change nothing."""

    def __init__(self, agent: Agent, address: str, pod: Namespace) -> None:
        self.agent, self.address, self.pod = agent, address, pod
        self.client = Client(address=address)

    def refused(self) -> None:
        """Dial a service that has no endpoint."""
        with self.pod.socket() as client:
            client.bind(("10.1.0.1", 0))
            assert client.connect_ex(("10.9.0.2", 80))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(peers.plane())
        plane.apply(*MESH)
        folder = tmp_path_factory.mktemp("g")
        agent = stack.enter_context(agents.agent(folder, plane.address))
        pod = stack.enter_context(namespace("10.1.0.1", "fd01::1", "10.1.0.2"))
        address = f"127.0.0.1:{free_port()}"
        agent.start_synced("--admin-address", address, "--exempt-cidrs", "10.7.0.0/24")
        agent.enrol(pod)
        agent.until(lambda state: len(state["authorization"]["pods"]) == 1)
        agent.audit()
        yield Running(agent, address, pod)


def golden(name: str, found: str) -> None:
    """Compare with a file, or write it."""
    path = GOLDEN / name
    if WRITE:
        path.write_text(found)
    assert found == path.read_text()


def shape(value: Any) -> Any:
    """Keys, and kinds of values; of a list and of what is keyed by numbers or names one row."""
    if isinstance(value, dict):
        if value and all(re.fullmatch(r"[0-9a-f/:. ]+|km_.*", key) for key in value):
            return {"<key>": shape(next(iter(value.values())))}
        return {
            key: {} if key == "reasons" else shape(each) for key, each in sorted(value.items())
        }  # they are those of what else this machine does
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, bool):
        return "bool"
    # Rates are null until there is a second sample.
    return "text" if isinstance(value, str) else "number or null"


def ordered(value: Any) -> Any:
    """Rows of the kernel's tables have no order."""
    if isinstance(value, dict):
        return {key: ordered(each) for key, each in value.items()}
    if isinstance(value, list):
        return sorted(map(ordered, value), key=orjson.dumps)
    return value


def words(text: str) -> str:
    """Without what differs from run to run."""
    return CHANGES.sub(lambda found: f"<{found.lastgroup}>", text)


def dumped(value: Any) -> str:
    return words(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()) + "\n"


def test_every_path_is_compared() -> None:
    paths = {each.path for each in OPERATIONS if each.method == "get"}
    assert paths == WORDED | SHAPED | DOCUMENT
    files = {name(path) for path in WORDED | SHAPED} | {f"{table}.txt" for table in TABLES}
    assert {path.name for path in GOLDEN.iterdir()} == files


def name(path: str) -> str:
    """The golden file of a path."""
    return f"get{path.replace('/', '_')}.txt"


def steady(value: Any) -> Any:
    """A record of the ring without what only this run has."""
    return {key: each for key, each in value.items() if key not in ("time", "source")}


@pytest.mark.parametrize("path", sorted(WORDED))
def test_answers_are_as_they_were(path: str, running: Running) -> None:
    if path == "/events":
        found = steady(event(running))
    elif path == "/debug/ready":
        found = running.client.text(path)
    else:
        found = running.client.get(path, ASKED.get(path))
        found = ordered(found) if "config_dump/bpf" in path else found
    if path == "/config_dump":
        found["config"] = {"nodeName": found["config"]["nodeName"]}  # the rest: tests/test_config
    golden(name(path), dumped(found))


def event(running: Running) -> Any:
    """The first record of a refusal: dialled until there is one."""
    lines = running.client.lines("/events", ASKED["/events"], 30.0)
    done = threading.Event()

    def dial() -> None:
        while not done.wait(0.1):
            running.refused()

    thread = threading.Thread(target=dial)
    thread.start()
    try:
        return next(lines)
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("path", sorted(SHAPED))
def test_shapes_are_as_they_were(path: str, running: Running) -> None:
    if path == "/diff":
        found: Any = list(running.client.lines(path))
    else:
        found = running.client.get(path, ASKED.get(path))
    if path == "/openapi.json":
        found = dict.fromkeys(found["paths"], 0)
    if WRITE:
        golden(name(path), dumped(shape(found)))
    assert lost(orjson.loads((GOLDEN / name(path)).read_text()), shape(found)) == []


def lost(kept: Any, found: Any, at: str = "") -> list[str]:
    """What is not as it was: keys that are gone, values of another kind. New keys break nobody."""
    if isinstance(kept, dict) and isinstance(found, dict):
        gone = [f"{at}/{key}" for key in kept if key not in found]
        return gone + [
            each
            for key in kept
            if key in found
            for each in lost(kept[key], found[key], f"{at}/{key}")
        ]
    if isinstance(kept, list) and isinstance(found, list):
        return lost(kept[0], found[0], f"{at}[]") if kept and found else []
    return [] if kept == found else [f"{at}: {found} instead of {kept}"]


TABLES: dict[str, tuple[str, ...]] = {
    "kmesh-check": ("kmesh", "check"),
    "kmesh-diff": ("kmesh", "diff"),
    "kmesh-why": ("kmesh", "why", "default/client", "web.shop:80"),
    "kmesh-why-refused": ("kmesh", "why", "default/client", "none.shop:80"),
    "kmesh-why-denied": ("kmesh", "why", "10.1.0.9", "default/client:22"),
    "kmesh-top": ("kmesh", "top", "--once"),
    "kmesh-top-workloads": ("kmesh", "top", "workloads", "--once"),
    "kmeshctl-version": ("kmeshctl", "version"),
    "kmeshctl-dump": ("kmeshctl", "dump", "dual-engine"),
    "kmeshctl-dump-bpf": ("kmeshctl", "dump", "dual-engine", "--bpf"),
    "kmeshctl-log-default": ("kmeshctl", "log", "-", "default"),
    "kmeshctl-accesslog": ("kmeshctl", "accesslog", "status"),
    "kmeshctl-monitoring": ("kmeshctl", "monitoring"),
    "kmeshctl-authz": ("kmeshctl", "authz", "status"),
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_as_they_were(
    table: str, running: Running, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    program, *command = TABLES[table]
    if program == "kmesh":
        kmesh([*command, "--run-dir", str(running.agent.run_dir)])
    else:
        kmeshctl(["--address", running.address, *(each for each in command if each != "-")])
    said = capsys.readouterr()
    lines = [line.rstrip() for line in words(said.out).splitlines()]
    if table == "kmeshctl-dump-bpf":
        lines = sorted(lines)  # rows of the kernel's tables have no order
    assert said.err == ""
    golden(f"{table}.txt", "\n".join(lines) + "\n")
