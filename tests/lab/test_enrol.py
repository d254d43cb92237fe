"""The client of the daemon's socket, against a small HTTP server that stands in for the daemon."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest

from kmesh.errors import LabError
from kmesh.lab.enrol import Daemon, DaemonAway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Stand(socketserver.UnixStreamServer):
    """Remembers what it was asked; answers as told."""

    def __init__(self, path: str) -> None:
        self.calls: list[tuple[str, str, object]] = []
        self.answer: tuple[int, bytes] = (200, b"{}")
        super().__init__(path, Handler)


class Handler(BaseHTTPRequestHandler):
    """One call."""

    server: Stand

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.calls.append((self.command, self.path, json.loads(body or b"null")))
        status, content = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _reply

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(str(tmp_path / "kmesh.sock")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_calls(stand: Stand, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    stand.answer = (200, b'{"cookie": 7, "workload": "u"}')
    assert daemon.enrol(tmp_path / "ns", "u") == 7
    daemon.withdraw(tmp_path / "ns")
    stand.answer = (200, b'[{"cookie": 7, "workload": "u"}]')
    assert daemon.enrolled() == [{"cookie": 7, "workload": "u"}]
    stand.answer = (200, b'{"synced": true}')
    assert daemon.state() == {"synced": True}
    netns = str(tmp_path / "ns")
    assert stand.calls == [
        ("POST", "/enrol", {"netns": netns, "workload": "u"}),
        ("DELETE", "/enrol", {"netns": netns}),
        ("GET", "/enrol", None),
        ("GET", "/state", None),
    ]


def test_what_the_daemon_says_reaches_the_user(stand: Stand, tmp_path: Path) -> None:
    stand.answer = (404, b'{"code": "KM1999", "error": "no such file", "next_step": "Make it."}')
    with pytest.raises(LabError) as caught:
        Daemon(tmp_path).enrol(tmp_path / "ns", "u")
    assert str(caught.value) == "KM1999: POST /enrol: no such file. Make it."


@pytest.mark.parametrize("answer", [(500, b"oops"), (200, b"{"), (200, b"3")])
def test_nonsense_is_an_error(answer: tuple[int, bytes], stand: Stand, tmp_path: Path) -> None:
    stand.answer = answer
    with pytest.raises(LabError):
        Daemon(tmp_path).state()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(DaemonAway, match=r"daemon not reachable at .*: No such file"):
        Daemon(tmp_path).enrolled()
