"""The agent's HTTP interface as the commands see it: over the Unix socket, or at an address."""

from __future__ import annotations

import http.client
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson

from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

TIMEOUT = 20.0  # seconds for one answer
PORT = 15200
RUN_DIR = "/run/kmesh"


class AgentAway(KmeshError):
    """No agent answers at the socket or address that was asked."""

    code = "KM1701"
    next_step = "Start it with `kmesh daemon`, or name its --run-dir or --address."


class AgentRefused(KmeshError):
    """The agent answered with an error; its own code is kept when it names one."""

    code = "KM1702"
    next_step = "Compare the versions of the agent and of this command: `kmesh --version`."

    def __init__(self, sentence: str, status: int = 0, next_step: str | None = None) -> None:
        super().__init__(sentence, next_step)
        self.status = status


class AddressError(KmeshError):
    """An address of an agent that cannot be understood."""

    code = "KM1703"
    next_step = "Write host:port, [address]:port or only a host; the port is 15200 by default."


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """One agent: at ``<run_dir>/kmesh.sock``, or at ``address`` when that is not empty."""

    def __init__(self, run_dir: str | Path = RUN_DIR, address: str = "") -> None:
        self._where = split(address) if address else None
        self._socket = Path(run_dir) / "kmesh.sock"

    @property
    def name(self) -> str:
        """Where the agent is asked, for messages."""
        return "{}:{}".format(*self._where) if self._where else str(self._socket)

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """The JSON document of a GET. Raises AgentAway, or AgentRefused with what it said."""
        return self.call("GET", path, query)

    def post(
        self, path: str, query: Mapping[str, object] | None = None, body: object = None
    ) -> Any:
        """The JSON document of a POST, None when the answer is empty; raises as ``get``."""
        return self.call("POST", path, query, body)

    def call(
        self, method: str, path: str, query: Mapping[str, object] | None = None, body: object = None
    ) -> Any:
        """One request whose answer is JSON or empty; raises as ``get``."""
        content = self.content(method, path, query, body)
        try:
            return orjson.loads(content) if content.strip() else None
        except orjson.JSONDecodeError as error:
            raise AgentRefused(f"{method} {path} at {self.name}: the answer is no JSON") from error

    def text(self, path: str, query: Mapping[str, object] | None = None) -> str:
        """The answer of a GET as text; raises as ``get``."""
        return self.content("GET", path, query).decode(errors="replace")

    def content(
        self, method: str, path: str, query: Mapping[str, object] | None = None, body: object = None
    ) -> bytes:
        """The bytes of an answer; raises as ``get``."""
        with self._answer(method, path, query, body, TIMEOUT) as response:
            return response.read()

    def lines(
        self, path: str, query: Mapping[str, object] | None = None, silence: float | None = None
    ) -> Iterator[Any]:
        """JSON documents, one a line, as they arrive, until the agent ends the answer or is
        silent for so many seconds; raises as ``get``."""
        with self._answer("GET", path, query, None, silence) as response:
            while line := response.readline():
                if line.strip():
                    yield orjson.loads(line)

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        timeout: float | None,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection(timeout)
        target = f"{path}?{urlencode(query)}" if query else path
        data = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request(method, target, data, headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise refusal(f"{method} {path}", response.status, response.read())
            yield response
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise AgentAway(f"no agent answers at {self.name}: {reason}") from error
        finally:
            connection.close()

    def _connection(self, timeout: float | None) -> http.client.HTTPConnection:
        if self._where is None:
            return _UnixConnection(self._socket, timeout)
        host, port = self._where
        return http.client.HTTPConnection(host.strip("[]"), port, timeout=timeout)


def refusal(call: str, status: int, content: bytes) -> AgentRefused:
    """What an answer of 400 and more says, with the agent's code and next step if it has them."""
    try:
        problem = orjson.loads(content)
    except orjson.JSONDecodeError:
        problem = None
    if not isinstance(problem, dict):
        said = content.decode(errors="replace").strip()
        return AgentRefused(f"{call}: {status} {said}".rstrip(), status)
    error = AgentRefused(
        f"{call}: {problem.get('error', status)}", status, problem.get("next_step")
    )
    error.code = str(problem.get("code", error.code))
    return error


def split(address: str) -> tuple[str, int]:
    """(host, port) of ``host``, ``host:port``, ``[v6]`` or ``[v6]:port``; raises AddressError."""
    bare = address.removeprefix("http://").rstrip("/")
    host, colon, port = bare.rpartition(":")
    if not colon or bare.endswith("]"):
        host, port = bare, str(PORT)
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise AddressError(f"{address!r} is no address of an agent")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise AddressError(f"{address!r}: an IPv6 address belongs into brackets")
    return host, int(port)


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--run-dir`` and ``--address``, for ``client``."""
    parser.add_argument(
        "--run-dir", default=RUN_DIR, metavar="DIR",
        help="directory of the agent's socket (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--address", default="", metavar="HOST:PORT",
        help="ask the agent's admin address instead of its socket",
    )  # fmt: skip


def client(args: argparse.Namespace) -> Client:
    """The agent that the options name; raises AddressError."""
    return Client(args.run_dir, args.address)
