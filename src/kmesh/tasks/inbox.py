"""What a stream received and nobody has read yet, bounded by the window that we gave the peer."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.wire.frames import Piece

_SMALL = 64 << 10  # bytes: to handle so few costs more than to copy them


class Overrun(Exception):
    """The peer sent more than its window allows."""


class Inbox:
    """Takes the place of grpclib's buffer; one reader.

    Payload of plain frames (``put``) is acknowledged through ``update``, half a window at a time;
    what came through the library (``add``) through ``acknowledge``, when it is read.
    """

    def __init__(
        self, window: int, update: Callable[[int], None], acknowledge: Callable[[int], None]
    ) -> None:
        self._window, self._update, self._acknowledge = window, update, acknowledge
        self._pieces: deque[tuple[Piece, int]] = deque()
        self._size = self._plain = self._read = 0
        self._ended = False
        self.waits = 0  # of the reader, ever: other tasks ran meanwhile
        self._wake = asyncio.Event()

    def put(self, data: Piece) -> None:
        """Payload of a plain frame. Raises Overrun."""
        self._plain += len(data)
        if self._plain > self._window:
            raise Overrun
        self._append(data, 0)

    def add(self, data: bytes, ack_size: int) -> None:
        """Payload that the library read; ``ack_size`` counts padding as well."""
        self._append(data, ack_size)

    def _append(self, data: Piece, ack_size: int) -> None:
        self._pieces.append((data, ack_size))
        self._size += len(data)
        self._wake.set()

    def eof(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._wake.set()

    def unacked_size(self) -> int:
        """What the library still waits to be acknowledged."""
        return sum(size for _, size in self._pieces)

    async def exactly(self, size: int) -> bytes:
        """The next ``size`` bytes; fewer only when the data ended."""
        await self._arrived(size)
        return self._take(min(size, self._size))

    async def some(self, most: int) -> bytes:
        """The next bytes, at most so many; none only when the data ended. What came together is
        not joined with more: that would be another copy."""
        await self._arrived(1)
        first = len(self._pieces[0][0]) if self._pieces else 0
        return self._take(min(most, self._size if first < _SMALL else first))

    async def _arrived(self, size: int) -> None:
        while self._size < size and not self._ended:
            self._wake.clear()
            self.waits += 1
            await self._wake.wait()

    def _take(self, size: int) -> bytes:
        taken: list[Piece] = []
        self._size -= size
        while size:
            data, ack_size = self._pieces.popleft()
            part = len(data) > size
            if part:
                view = memoryview(data)  # nothing of the rest is copied
                # The part that is read first is acknowledged with the rest.
                self._pieces.appendleft((view[size:], ack_size))
                data = view[:size]
            taken.append(data)
            size -= len(data)
            if not part and ack_size:
                self._acknowledge(ack_size)
            elif not ack_size:
                self._read += len(data)
        if self._read >= self._window // 2:
            self._plain -= self._read
            self._update(self._read)
            self._read = 0
        return b"".join(taken)  # which does not copy a single one of bytes
