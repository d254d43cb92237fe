"""One HTTP/2 connection to the control plane: grpclib's transport, hardened."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread
from grpclib.config import Configuration
from grpclib.exceptions import StreamTerminatedError
from grpclib.protocol import AbstractHandler, EventsProcessor, H2Protocol, Stream
from grpclib.utils import Wrapper
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from kmesh.tasks import credentials
from kmesh.tasks.ending import Ended
from kmesh.tasks.inbox import Inbox, Overrun
from kmesh.wire.frames import Frames, data_frames, window_updates

if TYPE_CHECKING:
    from asyncio import BaseTransport, Transport
    from collections.abc import Callable

    from h2.events import (
        ConnectionTerminated,
        DataReceived,
        ResponseReceived,
        StreamEnded,
        StreamReset,
    )
    from h2.events import Event as H2Event

    from kmesh.core.options import XdsOptions
    from kmesh.wire.frames import Piece


# Where a frame's type is, and which one a server starts with.
_TYPE_AT = 3
_SETTINGS = b"\4"
# Bytes of one write: copied in a tenth of a millisecond.
_WRITE = 256 << 10
_MOST = (1 << 31) - 1  # bytes of a window (RFC 9113, 6.9.1)


def code_name(code: int | ErrorCodes | None) -> str:
    """HTTP/2 error code as a word, or its number when it has none."""
    return ErrorCodes(code).name if code in list(ErrorCodes) else str(code)


class Fate(Wrapper):
    """The first cause that ended the connection or its one stream.

    grpclib's own Wrapper cancels the tasks that wait, which a cancel scope cannot tell from a
    cancellation of its own; this one wakes the reader by an end of data instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ended: Ended | None = None
        self.stream: Stream | None = None

    def end(self, reason: str, sentence: str) -> None:
        """Keep the cause unless there is one already, and wake the reader."""
        if self.ended is None:
            self.ended = Ended(reason, sentence)
        if self.stream is not None:
            self.stream.buffer.eof()

    def cancel(self, error: Exception) -> None:
        """What grpclib calls when the stream is terminated."""
        self.end("lost", str(error))


class _Handler(AbstractHandler):
    """A client has no handlers."""

    def accept(self, stream: Stream, headers: object, release_stream: Callable[[], None]) -> None:
        raise StreamTerminatedError("a control plane cannot open streams")

    def cancel(self, stream: Stream) -> None:
        """Nothing runs on behalf of a stream."""

    def close(self) -> None:
        """Nothing runs on behalf of the connection."""


class _Processor(EventsProcessor):
    """Ignores what it does not know instead of killing the connection (RFC 9113, 5.5)."""

    fate: Fate
    frames: Frames
    unknown_frames = 0

    def process(self, event: H2Event) -> None:
        try:
            super().process(event)
        except NotImplementedError:
            self.unknown_frames += 1

    def process_response_received(self, event: ResponseReceived) -> None:
        super().process_response_received(event)
        if event.stream_id in self.streams:
            self.frames.opened = event.stream_id == self.frames.stream

    def process_stream_ended(self, event: StreamEnded) -> None:
        self.frames.stream, self.frames.opened = 0, False
        super().process_stream_ended(event)

    def process_data_received(self, event: DataReceived) -> None:
        if event.data:
            super().process_data_received(event)
        elif not self.connection.is_closing():
            # grpclib would take an empty frame for the end of the stream.
            self.connection.ack(event.stream_id, event.flow_controlled_length or 0)

    def process_stream_reset(self, event: StreamReset) -> None:
        if event.stream_id in self.streams:
            self.fate.end("reset", f"stream reset, {code_name(event.error_code)}")
        super().process_stream_reset(event)

    def process_connection_terminated(self, event: ConnectionTerminated) -> None:
        more = (event.additional_data or b"").decode("utf-8", "replace")
        text = f"GOAWAY, {code_name(event.error_code)}" + (f", {more}" if more else "")
        self.fate.end("goaway", text)
        super().process_connection_terminated(event)


class Http2(H2Protocol):
    """The connection. Whatever arrives sets ``heard`` and ``last_heard`` (the loop's time)."""

    processor: _Processor
    transport: Transport

    def __init__(self, window: int) -> None:
        config = Configuration(
            http2_connection_window_size=window, http2_stream_window_size=window
        ).__for_client__()
        h2_config = H2Configuration(
            client_side=True,
            header_encoding="ascii",
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_inbound_headers=False,
            normalize_outbound_headers=False,
        )
        super().__init__(_Handler(), config, h2_config)
        self.fate = Fate()
        self._window = window
        self._frames = Frames(self._updated)
        self.heard = asyncio.Event()
        self._greeting = b""
        self._loop = asyncio.get_running_loop()
        self.last_heard = self._loop.time()

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport = cast("Transport", transport)
        self.processor = _Processor(self.handler, self.connection)
        self.processor.fate = self.fate
        self.processor.frames = self._frames

    def data_received(self, data: bytes) -> None:
        self.heard.set()
        self.last_heard = self._loop.time()
        if self.connection.is_closing() or not self._greeted(data):
            return
        for plain, piece in self._frames.feed(data):
            if plain:
                self._payload(piece)
            else:
                self._others(piece)
            if self.connection.is_closing():
                return
        self.connection.flush()

    def _updated(self, connection: int, own: int) -> None:
        """The peer takes more: what the library would do for each frame of it."""
        h2, stream = self.connection._connection, self.fate.stream
        found = h2.streams.get(self._frames.stream)
        if stream is None or found is None:
            return
        windows = h2.outbound_flow_control_window, found.outbound_flow_control_window
        if windows[0] + connection > _MOST or windows[1] + own > _MOST:
            self._broken("its window for what we send overflows")
            return
        h2.outbound_flow_control_window += connection
        found.outbound_flow_control_window += own
        stream.window_updated.set()

    def _payload(self, piece: bytes) -> None:
        try:
            self._inbox.put(piece)
        except Overrun:
            self._broken(f"more than {self._window} bytes that were not acknowledged")

    def _others(self, data: bytes) -> None:
        try:
            events = self.connection.feed(data)
        except (ProtocolError, UnicodeDecodeError) as error:
            self._broken(str(error) or repr(error))
            return
        for event in events:
            self.processor.process(event)

    def _broken(self, how: str) -> None:
        self.fate.end("protocol", f"the peer broke HTTP/2: {how}")
        self.connection.flush()
        self.processor.close()

    async def send(self, stream: Stream, data: Piece) -> None:
        """Send DATA as the windows allow, up to _WRITE bytes at a time: the library would make a
        write of every frame. Raises ProtocolError when the stream is closed."""
        view, h2 = memoryview(data), self.connection._connection
        while view:
            await self.connection.write_ready.wait()
            if stream.id is None or not stream.closable:
                raise ProtocolError("the stream is closed")
            stream.window_updated.clear()
            size = min(h2.local_flow_control_window(stream.id), len(view), _WRITE)
            if size <= 0:  # after new settings it may be less
                await stream.window_updated.wait()
                continue
            frames = data_frames(stream.id, view[:size], h2.max_outbound_frame_size)
            h2.outbound_flow_control_window -= size
            h2.streams[stream.id].outbound_flow_control_window -= size
            self._write(frames)
            view = view[size:]
            await asyncio.sleep(0)

    def _write(self, frames: list[Piece]) -> None:
        if self.transport.get_extra_info("ssl_object") is None:
            self.transport.writelines(frames)
        else:  # which would encrypt each by itself, however short
            self.transport.write(b"".join(frames))

    def inbox(self, stream: Stream) -> Inbox:
        """Where the connection's one stream is received from now on."""
        self._frames.stream = stream.id or 0
        self._inbox = Inbox(
            self._window, partial(self._give_back, stream), partial(self._acknowledge, stream)
        )
        return self._inbox

    def _give_back(self, stream: Stream, size: int) -> None:
        if stream.id is not None and not self.connection.is_closing():
            self.transport.write(window_updates(stream.id, size, size))

    def _acknowledge(self, stream: Stream, size: int) -> None:
        if stream.id is not None and not self.connection.is_closing():
            self.connection.ack(stream.id, size)

    def _greeted(self, data: bytes) -> bool:
        """Whether the peer's first frame is SETTINGS, as it must be.

        h2 alone would take another protocol's first bytes for a length and wait for megabytes.
        """
        if len(self._greeting) < _TYPE_AT + 1:
            self._greeting += data[: _TYPE_AT + 1]
            kind = self._greeting[_TYPE_AT : _TYPE_AT + 1]
            if kind and kind != _SETTINGS:
                self.fate.end("protocol", f"the peer speaks no HTTP/2: {self._greeting!r}")
                self.processor.close()
                return False
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        self.fate.end("lost", f"connection lost{f': {exc}' if exc else ''}")
        super().connection_lost(exc)

    def silence(self) -> float:
        """Seconds since the last byte."""
        return self._loop.time() - self.last_heard

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        if not self.connection.is_closing():
            self.connection._connection.ping(bytes(8))
            self.connection.flush()

    def close(self) -> None:
        """Close in good order; over TLS the peer has the close time-out to say goodbye."""
        self.fate.end("closed", "closed by us")
        self.processor.close()

    def abort(self) -> None:
        """Close without a goodbye: nobody listens."""
        self.transport.abort()


async def connect(options: XdsOptions) -> Http2:
    """Open a connection: every address of the host in turn, each within the connect time-out.

    Raises Ended: credentials, dns, connect, connect-timeout or tls.
    """
    target = options.target
    context = None
    if target.tls:
        context = await anyio.to_thread.run_sync(credentials.tls_context, options)
    last: Ended | None = None
    for address in await _resolve(options):
        try:
            return await _open(options, address, context)
        except Ended as error:
            last = error
    raise last or Ended("dns", f"{target.host} has no address")


async def _resolve(options: XdsOptions) -> list[str]:
    target = options.target
    loop = asyncio.get_running_loop()
    try:
        with anyio.fail_after(options.connect_timeout):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise Ended("dns", f"no answer for the name {target.host} in time") from error
    except (OSError, UnicodeError) as error:
        # UnicodeError: what cannot be a host name at all, such as a label of 64 characters.
        raise Ended("dns", f"{target.host}: {error}") from error
    return list(dict.fromkeys(str(info[4][0]) for info in found))


async def _open(options: XdsOptions, address: str, context: ssl.SSLContext | None) -> Http2:
    target, loop = options.target, asyncio.get_running_loop()
    factory = partial(Http2, options.window)
    try:
        with anyio.fail_after(options.connect_timeout):
            if context is None:
                _, protocol = await loop.create_connection(factory, address, target.port)
                return protocol
            transport, protocol = await loop.create_connection(
                factory,
                address,
                target.port,
                ssl=context,
                server_hostname=options.server_name or target.host,
                ssl_shutdown_timeout=options.close_timeout,
            )
    except TimeoutError as error:
        text = f"{target} ({address}) did not accept within {options.connect_timeout:g} s"
        raise Ended("connect-timeout", text) from error
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or str(error)
        raise Ended("tls", f"{target} ({address}): {why}") from error
    except OSError as error:
        if context is not None and not error.errno:
            text = f"{target} ({address}) closed the connection during the TLS handshake"
            raise Ended("tls", text) from error
        raise Ended("connect", f"{target} ({address}): {error.strerror or error!r}") from error
    if transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
        transport.abort()
        raise Ended("tls", f"{target} ({address}) does not offer HTTP/2 (ALPN h2)")
    return protocol
