"""Clients that mean no good at each listener of a real agent: the admin address, the metrics, the
probes and the socket."""

from __future__ import annotations

import http.client
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest

from tests.e2e.peers import free_port, pod, service
from tests.waiting import until

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
GOOD = {"admin": "/version", "metrics": "/metrics", "probes": "/healthz/live", "socket": "/state"}
MOST = {"admin": 128, "metrics": 64, "probes": 64, "socket": 128}
TCP = ("admin", "metrics", "probes")
SECRET = "root:x:0"


class Answer(NamedTuple):
    """Status, headers and body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Doors:
    """Every listener of an agent."""

    def __init__(self, agent: Agent, ports: dict[str, int]) -> None:
        self.agent, self.ports = agent, ports

    def connect(self, name: str) -> socket.socket:
        """A bare connection."""
        if name == "socket":
            made = socket.socket(socket.AF_UNIX)
            made.connect(str(self.agent.run_dir / "kmesh.sock"))
            made.settimeout(20)
            return made
        return socket.create_connection(("127.0.0.1", self.ports[name]), 20)

    def ask(self, name: str, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.get(name))
        connection.sock = self.connect(name)
        try:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, path, headers=named)
            found = connection.getresponse()
            return Answer(found.status, found.headers, found.read())
        finally:
            connection.close()

    def well(self, name: str) -> bool:
        """Whether a good question is answered."""
        try:
            return self.ask(name, GOOD[name]).status == 200
        except (OSError, http.client.HTTPException):
            return False


@pytest.fixture
def doors(agent: Agent, plane: Plane) -> Doors:
    ports = {name: free_port() for name in TCP}
    plane.apply(pod("web", "10.1.0.1", of="default/web"), service("default/web", "10.9.0.1"))
    agent.start_synced(*(
        word
        for name, flag in zip(TCP, ("--admin-address", "--metrics-address", "--probe-address"),
                              strict=True)
        for word in (flag, f"127.0.0.1:{ports[name]}")
    ))  # fmt: skip
    found = Doors(agent, ports)
    for name in GOOD:
        until(lambda name=name: found.well(name), agent.tail)  # type: ignore[misc]
    return found


def problem(answer: Answer) -> str:
    """The code of a problem in JSON."""
    assert answer.headers["Content-Type"] == "application/json", answer
    found: dict[str, Any] = orjson.loads(answer.body)
    assert set(found) == {"code", "error", "next_step"}
    return str(found["code"])


def test_at_every_listener(doors: Doors) -> None:
    for name in GOOD:
        for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
                     "/?file=/etc/passwd", "/debug/../../etc/passwd"):  # fmt: skip
            found = doors.ask(name, path)
            assert SECRET not in found.body.decode(errors="replace"), (name, path)
            if "?" not in path:
                assert (found.status, problem(found)) == (404, "KM1603"), (name, path)
        for method in ("PUT", "PATCH", "OPTIONS", "TRACE"):
            path = "/switches" if name == "admin" else GOOD[name]
            found = doors.ask(name, path, method)
            assert (found.status, problem(found)) == (405, "KM1604"), (name, method)
        long = {"X": "y" * 10_000}
        assert problem(doors.ask(name, GOOD[name], **long)) == "KM1606"
        with doors.connect(name) as raw:
            raw.sendall(b"\0\1\2 nonsense\r\n\r\n")
            assert raw.makefile("rb").read().startswith(b"HTTP/1.0 400 ")
        assert doors.well(name)
    for name in TCP:
        origin = doors.ask(name, GOOD[name], Origin="http://evil.example")
        assert (origin.status, problem(origin)) == (403, "KM1601"), name
        fetched = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"}
        assert doors.ask(name, GOOD[name], **fetched).status == 403
        headers = doors.ask(name, GOOD[name]).headers
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin", name
        assert headers["X-Content-Type-Options"] == "nosniff", name
        assert "Access-Control-Allow-Origin" not in headers
    metrics = doors.ask("metrics", "/metrics").body.decode()
    for name in GOOD:
        for reason in ("http", "origin") if name in TCP else ("http",):
            labels = f'listener="{name}",reason="{reason}"'
            assert f"kmesh_admin_turned_away_total{{{labels}}} 2" in metrics, labels
        assert f'kmesh_admin_connections{{listener="{name}"}}' in metrics


def test_a_rebound_name_reads_and_changes_nothing(doors: Doors) -> None:
    for method, path in (("GET", "/state"), ("GET", "/config_dump"), ("POST", "/authz?enable=0")):
        found = doors.ask("admin", path, method, Host="rebound.evil.example:15200")
        assert (found.status, problem(found)) == (403, "KM1601")
    forged = doors.ask("admin", "/authz?enable=0", "POST", Origin="http://evil.example")
    assert forged.status == 403
    for path in ("/authz?enable=0", "/monitoring?enable=0", "/accesslog?enable=1"):
        assert doors.ask("admin", path).status == 200, "GET only tells"
    assert orjson.loads(doors.ask("admin", "/authz").body) == {"enable": True}
    assert orjson.loads(doors.ask("admin", "/monitoring").body) == {"enable": True}


def test_bodies_are_bounded(doors: Doors) -> None:
    size = (64 << 10) + 100
    for name, path in (("admin", "/switches"), ("admin", "/debug/loggers"), ("socket", "/enrol")):
        with doors.connect(name) as raw:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
            raw.sendall(head.encode() + b"x" * size)
            found = http.client.HTTPResponse(raw)
            found.begin()
            assert (found.status, orjson.loads(found.read())["code"]) == (413, "KM1605"), name


def test_the_enrolment_shows_no_file(doors: Doors) -> None:
    from kmesh.cli.client import AgentRefused, Client

    for path in ("/etc/passwd", "/proc/self/environ", "/dev/zero", "/"):
        with pytest.raises(AgentRefused) as caught:
            Client(doors.agent.run_dir).post("/enrol", body={"netns": path, "workload": "a//P/b/c"})
        assert caught.value.sentence.endswith(f"{path} is not a network namespace"), path


def test_slow_clients_hold_up_nobody_else(doors: Doors, plane: Plane) -> None:
    """As many as each listener lets in, each with half a head: one more is sent away at once, the
    mesh goes on, and when they are gone everything is answered."""
    with ExitStack() as stack:
        for name, most in MOST.items():
            for _ in range(most):
                slow = stack.enter_context(doors.connect(name))
                slow.sendall(b"GET / HTTP/1.1\r\nHost: loc")
            until(lambda name=name: not doors.well(name), doors.agent.tail)  # type: ignore[misc]
        plane.apply(pod("new", "10.1.0.2", of="default/web"), service("default/web", "10.9.0.1"))
        plane.until_answered()
    for name in GOOD:
        until(lambda name=name: doors.well(name), doors.agent.tail)  # type: ignore[misc]
