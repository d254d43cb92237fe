"""The daemon's enrolment calls, over its Unix socket."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson

from kmesh.errors import KmeshError, LabError

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 5.0  # seconds


class DaemonAway(LabError):
    """Nobody answers at the daemon's socket."""

    next_step = "Start it with `kmesh daemon`."


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(str(self._path))


class Daemon:
    """One daemon, by its socket ``<run-dir>/kmesh.sock``."""

    def __init__(self, run_dir: Path) -> None:
        self.socket = run_dir / "kmesh.sock"

    def enrol(self, netns: Path, workload: str) -> int:
        """Enrol a namespace as a workload (uid); gives its cookie. Repeating is harmless."""
        answer = self._call("POST", "/enrol", {"netns": str(netns), "workload": workload})
        return int(answer["cookie"])

    def withdraw(self, netns: Path) -> None:
        """End an enrolment."""
        self._call("DELETE", "/enrol", {"netns": str(netns)})

    def enrolled(self) -> list[dict[str, Any]]:
        """All enrolments: ``{"cookie": int, "workload": uid, ...}``."""
        answer = self._call("GET", "/enrol")
        if not isinstance(answer, list):
            raise LabError(
                f"GET /enrol at {self.socket} gave no list", "Check the daemon's version."
            )
        return answer

    def state(self) -> dict[str, Any]:
        """``{"synced": bool, "revision": int, ...}``."""
        answer = self._call("GET", "/state")
        if not isinstance(answer, dict):
            raise LabError(
                f"GET /state at {self.socket} gave no map", "Check the daemon's version."
            )
        return answer

    def why(self, source: str, destination: str, port: int) -> dict[str, Any]:
        """Which policy decides on a connection: ``{"allowed": bool, "reason": str, ...}``."""
        query = urlencode({"source": source, "destination": destination, "port": port})
        answer: dict[str, Any] = self._call("GET", f"/why?{query}")
        return answer

    def _call(self, method: str, path: str, body: object = None) -> Any:
        """One request; raises DaemonAway, or KmeshError with what the daemon said."""
        connection = _UnixConnection(self.socket)
        data = None if body is None else orjson.dumps(body)
        try:
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DaemonAway(f"daemon not reachable at {self.socket}: {reason}") from error
        finally:
            connection.close()
        try:
            document = orjson.loads(content) if content else None
        except orjson.JSONDecodeError as error:
            raise LabError(f"{method} {path}: {response.status} without JSON") from error
        if response.status >= 400:
            raise _refusal(f"{method} {path}", response.status, document)
        return document


def _refusal(call: str, status: int, document: Any) -> KmeshError:
    if not isinstance(document, dict):
        return LabError(f"{call}: {status}")
    error = LabError(
        f"{call}: {document.get('error', status)}", document.get("next_step") or LabError.next_step
    )
    error.code = str(document.get("code", error.code))
    return error
