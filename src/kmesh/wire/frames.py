"""HTTP/2 frames told apart before the library reads them: nearly every byte of a sync is DATA."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from kmesh._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HEAD = struct.Struct(">HBBBI")  # length in two parts, type, flags, stream
_DATA, _WINDOW_UPDATE = 0, 8
_feed = lib.km_frames_feed
_END, _OTHER = lib.KM_FRAMES_END, lib.KM_FRAMES_OTHER
LONGEST: int = lib.KM_FRAMES_LONGEST
"""Payload of a frame that we never allowed to be longer (RFC 9113, 4.2)."""

Piece = bytes | memoryview


class Frames:
    """Cuts what arrives into plain DATA of ``stream`` and everything else, in order.

    Plain is a DATA frame that has no flags and some payload: it changes nothing but the flow
    control windows, which are the reader's then. ``updated`` is told by how much the connection's
    and the stream's windows for sending grew. What is not plain, or not allowed, is the library's
    to judge, byte by byte. ``stream`` is 0 as long as there is none, ``opened`` whether it may send
    DATA.
    """

    def __init__(self, updated: Callable[[int, int], None]) -> None:
        self.stream, self.opened = 0, False
        self._updated = updated
        self._state: Any = ffi.new("struct km_frames *")

    def feed(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        """(whether it is payload of plain frames, bytes) for all of ``data`` but plain heads."""
        state, at, end, found = self._state, 0, len(data), _OTHER
        while at < end or found != _END:
            state.stream, state.opened = self.stream, self.opened
            found = _feed(state, data, at, end)
            at = state.consumed
            if state.updates[0] or state.updates[1]:
                self._updated(state.updates[0], state.updates[1])
            if state.spans:
                yield True, self._payload(data)
            if found == _OTHER:
                yield False, bytes(ffi.buffer(state.other, state.other_size))

    def _payload(self, data: bytes) -> bytes:
        state, view = self._state, memoryview(data)
        starts = ffi.unpack(state.starts, state.spans)
        ends = ffi.unpack(state.ends, state.spans)
        return b"".join([view[a:b] for a, b in zip(starts, ends, strict=True)])


def data_frames(stream: int, payload: memoryview, longest: int) -> list[Piece]:
    """DATA frames of a stream in pieces, none longer than the peer takes."""
    parts: list[Piece] = []
    for at in range(0, len(payload), longest):
        body = payload[at : at + longest]
        parts += (_HEAD.pack(len(body) >> 8, len(body) & 0xFF, _DATA, 0, stream), body)
    return parts


def window_updates(stream: int, connection: int, own: int) -> bytes:
    """Frames that give back so many bytes of the connection's window and of a stream's."""
    heads = (_HEAD.pack(0, 4, _WINDOW_UPDATE, 0, number) for number in (0, stream))
    sizes = struct.pack(">I", connection), struct.pack(">I", own)
    return b"".join(head + size for head, size in zip(heads, sizes, strict=True))
