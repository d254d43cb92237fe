"""In front of an HTTP server: how many connections there may be, and how slow they may be.

A request's head must be whole in ``head`` seconds from the connection or from the end of the
request before; what is beyond ``most`` connections is closed at once. So clients that open
connections and say nothing, or a byte a second, hold nobody else up for long.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, cast

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MANY, SLOW, HTTP, BODY, ORIGIN, ANSWER, UNREAD = REASONS = (
    "connections", "head", "http", "body", "origin", "answer", "unread",
)  # fmt: skip
"""Why a client was turned away: one connection too many; its request's head did not come in time,
cannot be read or is too long; its body is too long; it is a page of another origin, or asked by a
foreign name; the answer took too long; it did not take its answer."""


class GateStatistics(NamedTuple):
    """Connections ``open`` now; since start those that were ``accepted``, and the clients that were
    turned away for each of REASONS."""

    open: int
    accepted: int
    turned: Mapping[str, int]


class Gate:
    """Makes the protocols of a listener; ``inner`` makes the server's own."""

    inner: Callable[[], asyncio.Protocol]

    def __init__(self, most: int, head: float) -> None:
        self.most, self.head = most, head
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.turned: Counter[str] = Counter()
        self._by_transport: dict[asyncio.BaseTransport, Connection] = {}

    def __call__(self) -> asyncio.Protocol:
        """A protocol for the next connection."""
        return Connection(self)

    def enter(self, transport: asyncio.Transport, connection: Connection) -> None:
        """A connection that is let in."""
        self.accepted += 1
        self.connections.add(connection)
        self._by_transport[transport] = connection

    def leave(self, transport: asyncio.Transport, connection: Connection) -> None:
        """A connection that is over."""
        self.connections.discard(connection)
        self._by_transport.pop(transport, None)

    def begun(self, transport: asyncio.BaseTransport | None) -> None:
        """A whole head has come: from now on the handler's deadline counts."""
        connection = self._by_transport.get(transport) if transport is not None else None
        if connection is not None:
            connection.stop_clock()

    def ended(self, transport: asyncio.BaseTransport | None) -> None:
        """The request is answered: the next one has its time."""
        connection = self._by_transport.get(transport) if transport is not None else None
        if connection is not None:
            connection.start_clock()

    def statistics(self) -> GateStatistics:
        """For metrics and dumps."""
        turned = {reason: self.turned[reason] for reason in REASONS}
        return GateStatistics(len(self.connections), self.accepted, turned)


GATE = web.AppKey("gate", Gate)
"""The gate in front of an application."""


class Connection(asyncio.Protocol):
    """Passes everything on to the server's own protocol."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or close it when there are too many."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        if len(self._gate.connections) >= self._gate.most:
            self._gate.turned[MANY] += 1
            transport.abort()
            return
        self._gate.enter(transport, self)
        self._transport, self._inner = transport, self._gate.inner()
        self._inner.connection_made(transport)
        self.start_clock()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The client will say no more."""
        return None if self._inner is None else self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""
        self.stop_clock()
        if self._transport is not None:
            self._gate.leave(self._transport, self)
        self._transport = None
        if self._inner is not None:
            self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The client has read."""
        if self._inner is not None:
            self._inner.resume_writing()

    def start_clock(self) -> None:
        """From now on a head must come in time."""
        self.stop_clock()
        if self._transport is not None:
            loop = asyncio.get_running_loop()
            self._clock = loop.call_later(self._gate.head, self._too_late)

    def stop_clock(self) -> None:
        """Nothing is awaited from the client."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_late(self) -> None:
        self._gate.turned[SLOW] += 1
        if self._transport is not None:
            self._transport.abort()
