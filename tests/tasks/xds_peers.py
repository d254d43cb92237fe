"""Control planes for tests, on loopback only: a good one (grpclib), one that misbehaves (raw h2);
a line-based stand-in for the wire, and a client with its record of what happened."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived

from kmesh.core.backoff import Backoff
from kmesh.core.delta import Session
from kmesh.core.events import ADDRESS, Applied, Commit, Envelope, Node, Offer, Request
from kmesh.core.model import Identity, Profile, Rejected, Resource, Workload
from kmesh.core.options import Target, XdsOptions
from kmesh.tasks.xds import METHOD, XdsClient
from kmesh.wire.errors import WireError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

NODE = Node("ztunnel~1.1.1.1~agent.kube~kube.svc.cluster.local", "", {"NODE_NAME": "n1"})
PATIENCE = 20.0

E = TypeVar("E", bound=Event)


# --- the stand-in for the wire: lines "+name version", "!name reason", "-name", "=type nonce"


def response(*lines: str, type_url: str = ADDRESS, nonce: str = "n") -> bytes:
    return "".join(f"{line}\n" for line in (*lines, f"={type_url} {nonce}")).encode()


class LineReader:
    def __init__(self) -> None:
        self._rest = b""
        self._removed: list[str] = []
        self._envelope: Envelope | None = None

    def batches(self, data: bytes) -> list[list[Resource]]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [[found for line in lines if (found := self._line(line.decode())) is not None]]

    def _line(self, line: str) -> Resource | None:
        mark, (name, _, value) = line[:1], line[1:].partition(" ")
        match mark:
            case "+":
                row = Workload(name, Identity(), Profile(), (), ())
                return Resource(name, value, line.encode(), row)
            case "!":
                return Resource(name, "", b"", Rejected(name, value))
            case "-":
                self._removed.append(name)
            case "=":
                self._envelope = Envelope(name, value)
            case _:
                raise WireError(f"not a line: {line!r}")
        return None

    def finish(self) -> Envelope:
        if self._envelope is None:
            raise WireError("no envelope")
        return self._envelope._replace(removed=tuple(self._removed))


def encode(request: Request) -> Iterator[bytes]:
    fields = request._asdict()
    fields["initial_versions"] = dict(request.initial_versions)
    fields["node"] = None if request.node is None else request.node.id
    text = json.dumps(fields).encode()
    yield text[:7]
    yield text[7:]


# --- the client under test


class Harness:
    """A client and what it told; ``until`` waits for any of it."""

    def __init__(self, port: int, *, max_request: int = 4 << 20, **options: Any) -> None:
        host = options.pop("host", "127.0.0.1")
        tls = options.pop("tls", False)
        settings = XdsOptions(target=Target(tls, host, port), cluster="east", **options)
        self.session = Session(NODE, max_request_bytes=max_request)
        self.offers: list[Offer] = []
        self.commits: list[Commit] = []
        self.apply_at_once = True
        self._changed = asyncio.Event()
        self.client = XdsClient(
            settings,
            self.session,
            LineReader,
            self._offer,
            self._commit,
            encode=encode,
            backoff=Backoff(ceiling=0.001, first=0.001, cap=0.01),
            draw=self._draw,
        )

    def _draw(self) -> float:
        self._changed.set()
        return 0.5

    def _offer(self, offer: Offer) -> None:
        self.offers.append(offer)
        self._changed.set()

    def _commit(self, commit: Commit) -> None:
        self.commits.append(commit)
        self._changed.set()
        if self.apply_at_once:
            self.client.applied(Applied(commit.revision, {}))

    @property
    def names(self) -> list[str]:
        return [item.name for offer in self.offers for item in offer.upserts]

    def ends(self, reason: str) -> int:
        return self.client.statistics().ends.get(reason, 0)

    async def until(self, holds: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def until_end(self, reason: str) -> None:
        """Wait until a stream or an attempt ended for this reason, and for no other one."""
        await self.until(lambda: bool(self.client.statistics().ends))
        assert self.ends(reason), (self.client.statistics().ends, self.error)

    @property
    def error(self) -> str:
        return self.client.statistics().last_error


@asynccontextmanager
async def running(harness: Harness) -> AsyncIterator[Harness]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(harness.client.run)
        try:
            yield harness
        finally:
            tasks.cancel_scope.cancel()


# --- the good control plane


class RawCodec(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        return data


class Call:
    """One accepted stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.metadata = dict(stream.metadata)

    async def request(self) -> dict[str, Any]:
        with anyio.fail_after(PATIENCE):
            data = await self._stream.recv_message()
        assert data is not None, "the client ended the stream"
        found: dict[str, Any] = json.loads(data)
        return found

    async def ended(self) -> None:
        """Wait until the client is gone (grpclib cancels or ends the call)."""
        with anyio.fail_after(PATIENCE):
            while await self._stream.recv_message() is not None:
                pass

    async def send(self, *lines: str, type_url: str = ADDRESS, nonce: str = "n") -> None:
        await self._stream.send_message(response(*lines, type_url=type_url, nonce=nonce))


class Plane:
    """A delta xDS service whose streams are served by ``script``."""

    def __init__(self, script: Callable[[Call], Awaitable[None]]) -> None:
        self._script = script

    async def _serve(self, stream: Any) -> None:
        await self._script(Call(stream))

    def __mapping__(self) -> dict[str, Handler]:
        handler = Handler(self._serve, Cardinality.STREAM_STREAM, bytes, bytes)
        return {METHOD: handler}


class _Server(Server):
    """grpclib's own close leaves connections open: this one can drop them, as a process does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._accepted: list[Any] = []

    def _protocol_factory(self) -> Any:
        protocol = super()._protocol_factory()
        self._accepted.append(protocol)
        return protocol

    def drop(self) -> None:
        for protocol in self._accepted:
            # Without a processor the TLS handshake never ended.
            if hasattr(protocol, "processor"):
                protocol.processor.close()


@asynccontextmanager
async def plane(
    script: Callable[[Call], Awaitable[None]],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Serve ``script`` per stream; yields the port."""
    server = _Server([Plane(script)], codec=RawCodec())
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    await server.start(sock=sock, ssl=context)
    try:
        yield sock.getsockname()[1]
    finally:
        server.drop()
        server.close()
        await server.wait_closed()


# --- the bad control plane


class Peer:
    """One accepted connection of a raw HTTP/2 server; ``ok`` starts a well-formed answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))

    def greet(self) -> None:
        """The server's preface."""
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    async def read(self) -> bytes:
        """The next bytes; raises ConnectionError when the client closed."""
        data = await self._reader.read(65536)
        if not data:
            raise ConnectionResetError("the client closed")
        return data

    async def until(self, kind: type[E]) -> E:
        """Next event of a kind; raises ConnectionError when the client closed."""
        while True:
            events = self.h2.receive_data(await self.read())
            for event in events:
                if isinstance(event, DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, 1)
            self.flush()
            for event in events:
                if isinstance(event, kind):
                    return event

    async def ok(self) -> None:
        """Accept the stream as gRPC."""
        await self.until(RequestReceived)
        self.h2.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
        self.flush()

    def message(self, body: bytes, *, flags: int = 0, length: int | None = None) -> None:
        size = len(body) if length is None else length
        data = bytes([flags]) + size.to_bytes(4, "big") + body
        for at in range(0, len(data), 16384):
            self.h2.send_data(1, data[at : at + 16384])
        self.flush()

    def trailers(self, status: int, text: str) -> None:
        fields = [("grpc-status", str(status)), ("grpc-message", text)]
        self.h2.send_headers(1, fields, end_stream=True)
        self.flush()

    def frame(self, kind: int, payload: bytes, *, flags: int = 0, stream: int = 0) -> None:
        """A frame of any kind, known or not."""
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self.writer.write(head + payload)


@asynccontextmanager
async def raw(
    script: Callable[[Peer], Awaitable[None]], *, greets: bool = True
) -> AsyncIterator[int]:
    """Serve ``script`` per connection, then hold it open until the client goes; yields the port."""
    peers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer)
        try:
            peer = Peer(reader, writer)
            if greets:
                peer.greet()
            await script(peer)
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass  # the client left in the middle of the script, as it may
        finally:
            peers.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in peers:
            writer.transport.abort()
        await server.wait_closed()
