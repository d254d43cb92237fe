"""A stand-in for the agent: answers over a Unix socket with what a test puts there."""

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


class FakeAgent(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """``answers``: path to a JSON document, to bytes, or to (status, document or bytes).
    ``asked``: (method, path, query, body) of every request."""

    daemon_threads = True

    def __init__(self, path: Path, answers: Answers) -> None:
        super().__init__(str(path), _Handler)
        self.answers = answers
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: FakeAgent

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, parts.path, dict(parse_qsl(parts.query)), body))
        found = self.server.answers.get(parts.path, (404, {"error": "no such path"}))
        status, document = found if isinstance(found, tuple) else (200, found)
        content = document if isinstance(document, bytes) else orjson.dumps(document)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def fake_agent(run_dir: Path, answers: Answers) -> Iterator[FakeAgent]:
    """The agent of ``run_dir`` until the block ends."""
    with FakeAgent(run_dir / "kmesh.sock", answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
