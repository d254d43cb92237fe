"""A stand-in for the agent: answers with what a test puts there, over a Unix socket or TCP."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Answers = dict[str, Any]


class FakeAgent:
    """``answers``: path, or path?query, to a JSON document, to bytes, or to (status, document or
    bytes). ``asked``: (method, path, query, body) of every request."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.address = ""
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    def posts(self) -> list[tuple[str, dict[str, str]]]:
        """(path, query) of every POST."""
        return [(path, query) for method, path, query, _ in self.asked if method == "POST"]

    def find(self, path: str, query: str) -> tuple[int, bytes]:
        """Status and body."""
        found = self.answers.get(f"{path}?{query}", self.answers.get(path))
        if found is None:
            found = (404, {"code": "KM1600", "error": "no such path", "next_step": "None."})
        status, document = found if isinstance(found, tuple) else (200, found)
        return status, document if isinstance(document, bytes) else orjson.dumps(document)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeAgent

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.fake.asked.append((self.command, parts.path, dict(parse_qsl(parts.query)), body))
        status, content = self.fake.find(parts.path, parts.query)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_: object) -> None:
        """Quiet."""


class _Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class _Tcp(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True


@contextlib.contextmanager
def fake_agent(run_dir: Path, answers: Answers) -> Iterator[FakeAgent]:
    """The agent of ``run_dir`` until the block ends."""
    fake = FakeAgent(answers)
    handler = type("Handler", (_Handler,), {"fake": fake})
    with _Unix(str(run_dir / "kmesh.sock"), handler) as server, _serving(server):
        yield fake


@contextlib.contextmanager
def fake_tcp_agent(answers: Answers) -> Iterator[FakeAgent]:
    """An agent at ``address``, on 127.0.0.1, until the block ends."""
    fake = FakeAgent(answers)
    handler = type("Handler", (_Handler,), {"fake": fake})
    with _Tcp(("127.0.0.1", 0), handler) as server, _serving(server):
        fake.address = f"127.0.0.1:{server.server_address[1]}"
        yield fake


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
