"""A proxy that cuts streams of HTTP/2 at one message after another."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DATA = 0


class Proxy:
    """Between agent and control plane at ``port``: connection n is cut in the middle of the n-th
    DATA frame that the control plane sends; those after ``most`` live, and the first ``calm`` are
    not counted."""

    def __init__(self, most: int, port: int, calm: int = 0) -> None:
        self.connections, self.cuts = -calm, 0
        self._most, self._port = most, port

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        most = self.connections if 0 < self.connections <= self._most else None
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._pass, reader, back, tasks)
                await self._frames(there, writer, most)
                tasks.cancel_scope.cancel()
        finally:
            writer.transport.abort()
            back.transport.abort()

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, tasks: anyio.abc.TaskGroup
    ) -> None:
        with suppress(ConnectionError):  # an end that goes while something is written to it
            while data := await source.read(1 << 16):
                target.write(data)
        tasks.cancel_scope.cancel()

    async def _frames(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, most: int | None
    ) -> None:
        seen = 0
        while True:
            try:
                head = await source.readexactly(9)
                body = await source.readexactly(int.from_bytes(head[:3], "big"))
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            if target.is_closing():  # uvloop raises RuntimeError when it is written to
                return
            seen += head[3] == DATA
            if most is not None and seen == most:
                self.cuts += 1
                target.write(head + body[: len(body) // 2])  # in the middle of the message
                return
            target.write(head + body)
