"""HTTP/2 frames told apart before the library reads them: nearly every byte of a sync is DATA."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = struct.Struct(">HBBBI")  # length in two parts, type, flags, stream
_DATA, _HEADERS, _PUSH, _CONTINUATION, _WINDOW_UPDATE = 0, 1, 5, 9, 8
_END_HEADERS = 4
LONGEST = 1 << 14
"""Payload of a frame that we never allowed to be longer (RFC 9113, 4.2)."""

Piece = bytes | memoryview


class Frames:
    """Cuts what arrives into plain DATA of ``stream`` and everything else, in order.

    Plain is a DATA frame that has no flags and some payload: it changes nothing but the flow
    control windows, which are the reader's then. What is not plain, or not allowed, is the
    library's to judge, byte by byte. ``stream`` is 0 as long as it may not send DATA.
    """

    def __init__(self) -> None:
        self.stream = 0
        self._head = b""
        self._left = 0
        self._plain = self._continued = False

    def feed(self, data: bytes) -> Iterator[tuple[bool, Piece]]:
        """(whether it is payload of a plain frame, bytes) for all of ``data``."""
        view, at, end = memoryview(data), 0, len(data)
        while at < end:
            if self._left:
                start, at = at, min(at + self._left, end)
                self._left -= at - start
                yield self._plain, view[start:at]
                continue
            start, at = at, min(at + _HEAD.size - len(self._head), end)
            self._head += data[start:at]
            if len(self._head) == _HEAD.size:
                head, self._head = self._head, b""
                self._open(head)
                if not self._plain:
                    yield False, head

    def _open(self, head: bytes) -> None:
        high, low, kind, flags, stream = _HEAD.unpack(head)
        self._left = high << 8 | low
        self._plain = (
            kind == _DATA
            and not flags
            and stream == self.stream != 0
            and 0 < self._left <= LONGEST
            and not self._continued
        )
        if kind in (_HEADERS, _PUSH, _CONTINUATION):
            self._continued = not flags & _END_HEADERS


def data_frames(stream: int, payload: memoryview, longest: int) -> bytes:
    """DATA frames of a stream, none longer than the peer takes."""
    parts: list[Piece] = []
    for at in range(0, len(payload), longest):
        body = payload[at : at + longest]
        parts += (_HEAD.pack(len(body) >> 8, len(body) & 0xFF, _DATA, 0, stream), body)
    return b"".join(parts)


def window_updates(stream: int, size: int) -> bytes:
    """Frames that give back ``size`` bytes of the connection's window and of a stream's."""
    body = struct.pack(">I", size)
    heads = (_HEAD.pack(0, 4, _WINDOW_UPDATE, 0, number) for number in (0, stream))
    return b"".join(head + body for head in heads)
