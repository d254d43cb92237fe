"""One bidirectional gRPC stream, read in pieces: no message is ever whole in memory."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from grpclib.const import Status
from grpclib.metadata import USER_AGENT, decode_grpc_message
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from kmesh.tasks.ending import Ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from grpclib.protocol import Stream

    from kmesh.core.options import Target
    from kmesh.tasks.channel import Http2
    from kmesh.wire.frames import Piece

PIECE = 256 << 10  # as much as the loop reads at once
_PREFIX = struct.Struct(">BI")
_INSIDE = "the stream ended inside a message"


class Call:
    """One stream of ``http2``, which has no other."""

    def __init__(self, http2: Http2) -> None:
        """Raises Ended when the connection is already gone."""
        self._fate = http2.fate
        if self._fate.ended is not None:
            raise self._fate.ended
        self._http2 = http2
        self._stream: Stream = http2.processor.connection.create_stream(wrapper=self._fate)
        self._release: Callable[[], None] | None = None
        self._accepted = False

    async def start(self, target: Target, path: str, metadata: Iterable[tuple[str, str]]) -> None:
        """Send the request headers. Raises Ended."""
        headers = [
            (":method", "POST"),
            (":scheme", "https" if target.tls else "http"),
            (":path", path),
            (":authority", target.authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", USER_AGENT),
            *metadata,
        ]
        processor = self._http2.processor
        try:
            self._release = await self._stream.send_request(headers, _processor=processor)
        except (ProtocolError, RuntimeError) as error:
            raise self._unsent(error) from error
        self._inbox = self._http2.inbox(self._stream)
        self._stream.buffer = self._inbox  # type: ignore[assignment] # has all that grpclib calls
        self._fate.stream = self._stream

    async def send(self, pieces: Sequence[Piece]) -> int:
        """Send one message given in pieces; returns its length. Raises Ended."""
        length = sum(map(len, pieces))
        first, *rest = pieces
        try:
            for piece in (b"".join((_PREFIX.pack(0, length), first)), *rest):
                await self._http2.send(self._stream, piece)
        except (ProtocolError, RuntimeError) as error:
            raise self._unsent(error) from error
        return length

    def _unsent(self, error: ProtocolError | RuntimeError) -> Exception:
        """uvloop refuses to write to a closed transport with RuntimeError; others are bugs."""
        if isinstance(error, RuntimeError) and self._fate.ended is None:
            return error
        return self._cause("protocol", str(error) or repr(error))

    @property
    def waits(self) -> int:
        """How often ``length`` and ``piece`` had to wait, so that other tasks had their turn."""
        return self._inbox.waits

    async def length(self, limit: int) -> int:
        """Wait for the next message; its length in bytes. Raises Ended at the end of the stream,
        for a compressed message and for one longer than ``limit``."""
        head = await self._inbox.exactly(_PREFIX.size)
        if not head:
            raise self._cause("ended", "the control plane ended the stream")
        if len(head) < _PREFIX.size:
            raise self._cause("truncated", _INSIDE)
        if not self._accepted:
            self._check_headers()
        flags, length = _PREFIX.unpack(head)
        if flags:
            raise Ended("compressed", f"message with compression flag {flags}, none was offered")
        if length > limit:
            raise Ended("oversize", f"message of {length} bytes, more than {limit} are refused")
        return int(length)

    async def piece(self, left: int) -> bytes:
        """The next bytes of a message of which ``left`` are missing; never empty. Raises Ended."""
        data = await self._inbox.some(min(left, PIECE))
        if not data:
            raise self._cause("truncated", _INSIDE)
        return data

    def _check_headers(self) -> None:
        headers = dict(self._stream.headers or ())
        status, kind = headers.get(":status"), headers.get("content-type", "")
        if status != "200" or not kind.startswith("application/grpc"):
            raise Ended("protocol", f"not a gRPC answer: HTTP status {status}, type {kind!r}")
        self._accepted = True

    def _cause(self, reason: str, sentence: str) -> Ended:
        """Why the stream is over: its status, else what ended the connection, else ``reason``."""
        headers = dict(self._stream.trailers or self._stream.headers or ())
        code = headers.get("grpc-status")
        if code is not None:
            if code == "0":
                return Ended(reason, sentence)
            text = decode_grpc_message(headers.get("grpc-message", ""))
            name = Status(int(code)).name if code in _STATUS else code
            return Ended(
                f"status-{name.lower().replace('_', '-')}", f"the control plane says {name}: {text}"
            )
        if self._fate.ended is not None:
            return self._fate.ended
        if headers.get(":status", "200") != "200":
            return Ended("protocol", f"not a gRPC answer: HTTP status {headers[':status']}")
        if reason == "ended":
            return Ended("protocol", "the stream ended without a gRPC status")
        return Ended(reason, sentence)

    def close(self) -> None:
        """Reset the stream when it is still open."""
        if self._release is None:
            return
        if self._stream.closable:
            self._stream.reset_nowait(ErrorCodes.CANCEL)
        self._release()
        self._release = None


_STATUS = frozenset(str(status.value) for status in Status)
