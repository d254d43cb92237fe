"""The gRPC face: AggregatedDiscoveryService with the delta method, for any number of clients.

Back-pressure is the transport's: while a client does not read, its session only remembers which
names are due, and the next response carries their latest state.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from kmesh.controlplane import envelope
from kmesh.controlplane.mesh import Mesh
from kmesh.controlplane.resources import snapshot
from kmesh.controlplane.session import ProtocolFault, Session, SessionStatistics
from kmesh.controlplane.state import Delta, Entry, Snapshot, difference
from kmesh.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

log = logging.getLogger(__name__)
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
WINDOW = 256 * 1024


class RawCodec(CodecBase):
    """Messages stay bytes: the library must not decode what it does not understand."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: Any) -> bytes:
        """The bytes."""
        return message

    def decode(self, data: bytes, message_type: Any) -> bytes:
        """The bytes."""
        return data


class Listen(NamedTuple):
    """Where to listen: a host and a port (0 picks one), or the path of a Unix socket."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Listen:
        """``host:port``, ``[v6]:port``, or a path with a slash; raises ConfigError."""
        if "/" in text:
            return cls(path=text.removeprefix("unix:"))
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ConfigError(f"--listen must be HOST:PORT or a socket path, not {text!r}")
        return cls(host.strip("[]"), int(port))

    def bind(self) -> socket.socket:
        """A listening socket; raises ConfigError when the address cannot be had."""
        try:
            if self.path:
                return _unix(Path(self.path))
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            return socket.create_server((self.host, self.port), family=family, backlog=128)
        except OSError as error:
            where = self.path or f"{self.host}:{self.port}"
            raise ConfigError(f"cannot listen at {where}: {error.strerror}") from error


def _unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and sock.connect_ex(str(path)) != 0:
            path.unlink()  # left by a process that was killed
            sock.close()
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(path))
        sock.listen(128)
    except OSError:
        sock.close()
        raise
    return sock


class ControlPlane:
    """Delta xDS from a mesh, or from resources put by hand.

    Changes made between two ``await`` of the caller reach each client as one response.
    """

    def __init__(
        self,
        mesh: Mesh | None = None,
        *,
        listen: Listen | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._state: dict[str, Snapshot] = snapshot(mesh or Mesh())
        self._listen = listen or Listen()
        self._tls = tls
        self._sessions: dict[Session, asyncio.Event] = {}
        self.address = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve inside the block; gives ``<host>:<port>``, ``[<v6>]:<port>`` or the path."""
        sock = self._listen.bind()
        config = Configuration(http2_connection_window_size=WINDOW, http2_stream_window_size=WINDOW)
        server = Server([self], codec=RawCodec(), config=config)
        await server.start(sock=sock, ssl=self._tls)
        self.address = _text(sock)
        try:
            yield self.address
        finally:
            server.close()
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await server.wait_closed()
            if self._listen.path:
                Path(self._listen.path).unlink(missing_ok=True)  # noqa: ASYNC240

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[str] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; reports the address as started value."""
        async with self.serving() as address:
            task_status.started(address)
            await anyio.sleep_forever()

    async def apply(self, mesh: Mesh) -> dict[str, Delta]:
        """Replace everything by another mesh; clients get the difference, one response a type."""
        return self.replace(await asyncio.to_thread(snapshot, mesh))

    def replace(self, state: dict[str, Snapshot]) -> dict[str, Delta]:
        """Replace everything by encoded resources; gives what changed, by type."""
        deltas = {}
        for type_url in {**self._state, **state}:
            new = state.get(type_url, {})
            delta = difference(self._state.get(type_url, {}), new)
            self._state[type_url] = dict(new)
            if delta:
                deltas[type_url] = delta
                self._touch(type_url, (*delta.changed, *delta.removed))
        return deltas

    def set_resource(self, type_url: str, name: str, version: str, raw: bytes) -> None:
        """Put one resource as encoded bytes; they are not checked, so bad ones can be served."""
        self._state.setdefault(type_url, {})[name] = Entry(version, raw)
        self._touch(type_url, (name,))

    def remove_resource(self, type_url: str, name: str) -> None:
        """Remove one resource; raises KeyError when there is none."""
        del self._state[type_url][name]
        self._touch(type_url, (name,))

    def _touch(self, type_url: str, names: tuple[str, ...]) -> None:
        for session, wake in self._sessions.items():
            session.touch(type_url, names)
            wake.set()

    def statistics(self) -> list[SessionStatistics]:
        """One row per connected client."""
        return [session.statistics() for session in self._sessions]

    def sessions(self) -> list[Session]:
        """The connected clients."""
        return list(self._sessions)

    def __mapping__(self) -> dict[str, Handler]:
        return {METHOD: Handler(self._serve, Cardinality.STREAM_STREAM, bytes, bytes)}

    async def _serve(self, stream: Stream[bytes, bytes]) -> None:
        session, wake = Session(_peer(stream)), asyncio.Event()
        self._sessions[session] = wake
        log.info("%s: connected, %d clients", session.peer, len(self._sessions))
        writer = asyncio.create_task(self._write(session, wake, stream))
        reader = asyncio.create_task(self._read(session, wake, stream))
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._sessions[session]
            for task in (reader, writer):
                task.cancel()
            results = await asyncio.gather(reader, writer, return_exceptions=True)
            log.info("%s: gone, %d clients", session.peer, len(self._sessions))
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _read(
        self, session: Session, wake: asyncio.Event, stream: Stream[bytes, bytes]
    ) -> None:
        async for data in stream:
            try:
                session.receive(envelope.request(data))
            except (ValueError, ProtocolFault) as error:
                log.warning("%s: bad request: %s", session.peer, error)
                raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
            if session.due:
                wake.set()

    async def _write(
        self, session: Session, wake: asyncio.Event, stream: Stream[bytes, bytes]
    ) -> None:
        while True:
            await wake.wait()
            wake.clear()
            while (data := session.next(self._state)) is not None:
                await stream.send_message(data)


def _peer(stream: Stream[bytes, bytes]) -> str:
    address = stream.peer.addr() if stream.peer is not None else None
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unix"


def _text(sock: socket.socket) -> str:
    name = sock.getsockname()
    if isinstance(name, str):
        return name
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
