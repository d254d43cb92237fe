"""The commands' HTTP client against small real servers."""

from __future__ import annotations

import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from kmesh.cli.client import AddressError, AgentAway, AgentRefused, Client, split

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANSWERS = {
    "/json": (200, b'{"a": [1, 2]}'),
    "/empty": (200, b""),
    "/text": (200, b"OK"),
    "/problem": (400, b'{"code": "KM1303", "error": "no such pod", "next_step": "Ask again."}'),
    "/plain": (405, b"Method Not Allowed\n"),
    "/lines": (200, b'{"n": 1}\n\n{"n": 2}\n'),
}


class Handler(BaseHTTPRequestHandler):
    """Answers by path; ``/echo`` repeats the request."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        size = int(self.headers.get("Content-Length", 0))
        echo = f'["{self.command} {self.path}"]'.encode(), self.rfile.read(size)
        status, body = (200, echo[0]) if path == "/echo" else ANSWERS.get(path, (200, echo[1]))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_: object) -> None:
        """Quiet."""


class UnixServer(socketserver.UnixStreamServer):
    """The same over a Unix socket."""


@pytest.fixture(params=["socket", "ipv4"])
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    server: socketserver.BaseServer
    if request.param == "socket":
        server = UnixServer(str(tmp_path / "kmesh.sock"), Handler)
        client = Client(tmp_path)
    else:
        server = HTTPServer(("127.0.0.1", 0), Handler)
        client = Client(address=f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield client
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_json_text_and_empty_answers(agent: Client) -> None:
    assert agent.get("/json") == {"a": [1, 2]}
    assert agent.text("/text") == "OK"
    assert agent.post("/empty") is None


def test_method_query_and_body_arrive(agent: Client) -> None:
    assert agent.post("/echo", {"enable": "true", "pod": "a b"}) == [
        "POST /echo?enable=true&pod=a+b"
    ]
    assert agent.post("/body", body={"name": "bpf"}) == {"name": "bpf"}


def test_lines_arrive_one_by_one(agent: Client) -> None:
    assert list(agent.lines("/lines")) == [{"n": 1}, {"n": 2}]


def test_a_problem_keeps_code_and_next_step(agent: Client) -> None:
    with pytest.raises(AgentRefused) as caught:
        agent.get("/problem")
    error = caught.value
    assert (error.code, error.status, error.next_step) == ("KM1303", 400, "Ask again.")
    assert error.sentence == "GET /problem: no such pod"


def test_an_error_that_is_no_problem(agent: Client) -> None:
    with pytest.raises(AgentRefused, match="POST /plain: 405 Method Not Allowed") as caught:
        agent.post("/plain")
    assert caught.value.code == "KM1702"


def test_an_answer_that_is_no_json(agent: Client) -> None:
    with pytest.raises(AgentRefused, match="the answer is no JSON"):
        agent.get("/text")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(AgentAway, match=r"kmesh\.sock: No such file or directory"):
        Client(tmp_path).get("/state")


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("node", "node", 15200),
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("[::1]", "[::1]", 15200),
        ("[::1]:80", "[::1]", 80),
        ("http://node:81/", "node", 81),
    ],
)
def test_addresses(address: str, host: str, port: int) -> None:
    assert split(address) == (host, port)


@pytest.mark.parametrize(
    "address", ["", ":80", "node:http", "node:0", "node:70000", "::1", "::1:80"]
)
def test_addresses_that_cannot_be(address: str) -> None:
    with pytest.raises(AddressError):
        split(address)
