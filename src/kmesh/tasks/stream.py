"""Long answers in pieces: the loop is never held for long, and nobody's slowness holds anything."""

from __future__ import annotations

from heapq import merge
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.lowlevel
from aiohttp import web

from kmesh.core.changes import each
from kmesh.tasks.gate import GATE, UNREAD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

SLICE = 0.002  # seconds of the loop at a time
PART = 1 << 18  # bytes of one write at least
WRITE_WITHIN = 20.0  # seconds for a client to take what was written
SORTED = 512  # names that are sorted at a time
PACKED = 16  # names in one object
JSON = "application/json"
H = TypeVar("H")


def endless(handler: H) -> H:
    """Mark a handler whose answer may take as long as it takes; it must bound its own writes in
    time."""
    handler.endless = True  # type: ignore[attr-defined]
    return handler


async def stream(
    request: web.Request,
    pieces: Iterator[bytes],
    content_type: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer with pieces, made a few milliseconds at a time. A client that takes nothing for
    WRITE_WITHIN loses the connection."""
    return await send(request, _sliced(pieces), content_type, headers)


async def send(
    request: web.Request,
    parts: AsyncIterator[bytes],
    content_type: str,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """As ``stream``, for parts that are long enough to be written one by one. An error before the
    first part can still be told."""
    response = web.StreamResponse(headers=headers)
    response.content_type = content_type
    response.enable_chunked_encoding()
    try:
        async for part in parts:
            if not response.prepared:
                await response.prepare(request)
            if part:
                with anyio.fail_after(WRITE_WITHIN):
                    await response.write(part)
        await response.write_eof()
    except TimeoutError:
        request.app[GATE].turned[UNREAD] += 1
        if request.transport is not None:
            request.transport.abort()  # half an answer must not look like a whole one
    return response


async def _sliced(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """In parts that are worth a write each; the others have their turn after every SLICE."""
    more, waits, size = True, list[bytes](), 0
    while more:
        content, more = _slice(pieces)
        waits.append(content)
        size += len(content)
        if size >= PART or not more:
            yield b"".join(waits)
            waits, size = [], 0
        # Twice: who was woken during the slice waits in line behind what comes first.
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()


def _slice(pieces: Iterator[bytes]) -> tuple[bytes, bool]:
    found: list[bytes] = []
    size, end = 0, monotonic() + SLICE
    for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size >= PART or monotonic() >= end:
            return b"".join(found), True
    return b"".join(found), False


class More(bytes):
    """A further part of the row before."""

    __slots__ = ()


def in_order(names: Iterable[str], by: Callable[[str], str] | None = None) -> Iterator[str | None]:
    """Names sorted (by what ``by`` makes of them), each once, without listing or sorting them all
    at once: None stands for a piece of the work. They wait packed: each look of the garbage
    collector would visit 100,000 texts one by one."""
    key = None if by is None else lambda name: (by(name), name)
    source = each(names)
    runs: list[tuple[bytes, ...]] = []
    while run := sorted(islice(source, SORTED), key=key):
        runs.append(tuple(_packed(run)))
        yield None
    last = None
    for name in merge(*map(_unpacked, runs), key=key):
        if name != last:
            yield name
        last = name


def _packed(names: list[str]) -> Iterator[bytes]:
    for at in range(0, len(names), PACKED):
        some = names[at : at + PACKED]
        yield b"\xff".join([name.encode("utf-8", "surrogatepass") for name in some])


def _unpacked(run: tuple[bytes, ...]) -> Iterator[str]:
    for some in run:
        for name in some.split(b"\xff"):
            yield name.decode("utf-8", "surrogatepass")


def listed(key: str, rows: Iterable[bytes | None], *, first: bool = False) -> Iterator[bytes]:
    """``"key": [rows]`` of a JSON object; an empty piece for each None. A row may have more parts,
    which follow it at once."""
    yield b'%s"%s":[' % (b"" if first else b",\n", key.encode())
    comma = b"\n"
    for row in rows:
        if row is None:
            yield b""
        elif isinstance(row, More):
            yield row
        else:
            yield comma + row
            comma = b",\n"
    yield b"]"
