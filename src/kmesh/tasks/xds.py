"""The delta xDS client: keeps one stream open for ever and feeds the session with it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.to_thread

from kmesh.core.backoff import Backoff
from kmesh.core.events import Commit, Offer
from kmesh.tasks import credentials
from kmesh.tasks.call import Call
from kmesh.tasks.channel import connect
from kmesh.tasks.ending import Ended
from kmesh.tasks.xds_statistics import Counters, XdsStatistics
from kmesh.wire.errors import WireError
from kmesh.wire.request import request_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kmesh.core.delta import Session
    from kmesh.core.events import Applied, Envelope, Request
    from kmesh.core.model import Resource
    from kmesh.core.options import XdsOptions
    from kmesh.tasks.channel import Http2
    from kmesh.wire.frames import Piece

log = logging.getLogger(__name__)

FIRST_PART, LEAST_PART, MOST_PART = 4 << 10, 4 << 10, 256 << 10  # bytes decoded in one go
SLICE = 0.002  # seconds of this thread
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class Reader(Protocol):
    """Reads one response, as ``kmesh.wire.discovery.ResponseReader`` does."""

    def batches(self, data: bytes) -> Iterable[Sequence[Resource]]: ...

    def finish(self) -> Envelope: ...


class XdsClient:
    """``offer`` and ``commit`` are called on the loop, in order, and must not wait.

    ``new_reader`` makes the reader of the next response; ``encode`` gives a request in pieces.
    """

    def __init__(
        self,
        options: XdsOptions,
        session: Session,
        new_reader: Callable[[], Reader],
        offer: Callable[[Offer], None],
        commit: Callable[[Commit], None],
        *,
        encode: Callable[[Request], Iterable[Piece]] = request_pieces,
        backoff: Backoff | None = None,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options, self._session, self._new_reader = options, session, new_reader
        self._offer, self._commit, self._encode = offer, commit, encode
        self._backoff, self._draw, self._clock = backoff or Backoff(), draw, clock
        self._outbox: deque[Request] = deque()
        self._wake_sender = asyncio.Event()
        self._due: deque[tuple[float, int]] = deque()
        self._wake_deadline = asyncio.Event()
        self._counters = Counters(since=clock())
        self._answered, self._opened = False, 0.0
        self._part = FIRST_PART
        self._turn = 0.0  # when the others had theirs, in seconds of this thread
        self._http2: Http2 | None = None

    async def run(self) -> None:
        """Connect, serve, back off, for ever; only cancellation ends it."""
        while True:
            self._counters.attempts += 1
            self._answered, self._opened = False, anyio.current_time()
            try:
                end = await self._once()
            finally:
                self._over()
            lived = anyio.current_time() - self._opened
            seconds, self._backoff = self._backoff.ended(lived, self._answered).wait(self._draw())
            reason = self._counters.ended(end, self._clock())
            log.warning("xds %s: %s Next attempt in %.3f s", reason, end, seconds)
            await anyio.sleep(seconds)

    def applied(self, applied: Applied) -> None:
        """The writer's report; answers leave as soon as the stream takes them."""
        while self._due and self._due[0][1] <= applied.revision:
            self._due.popleft()
        self._queue(self._session.applied(applied))

    def statistics(self) -> XdsStatistics:
        """What an operator wants to know about the connection."""
        self._heard()
        return self._counters.statistics(self._session)

    def _heard(self) -> None:
        if self._http2 is not None:
            self._counters.last_heard = self._clock() - self._http2.silence()

    def _queue(self, requests: Iterable[Request]) -> None:
        self._outbox.extend(requests)
        self._wake_sender.set()

    def _over(self) -> None:
        self._heard()
        self._http2 = None
        self._counters.turned(False, self._clock())
        self._session.disconnected()
        self._outbox.clear()
        self._due.clear()

    async def _once(self) -> Ended | WireError:
        """One connection from start to end; returns why it ended."""
        options = self.options
        try:
            token = await anyio.to_thread.run_sync(credentials.token, options)
            http2 = await connect(options)
        except Ended as end:
            return end
        self._http2 = http2
        try:
            call = Call(http2)
            try:
                await call.start(options.target, METHOD, self._metadata(token))
                return await self._serve(http2, call)
            finally:
                call.close()
        except Ended as end:
            return end
        finally:
            self._counters.unknown_frames += http2.processor.unknown_frames
            http2.close()

    def _metadata(self, token: str) -> list[tuple[str, str]]:
        metadata = [("authorization", f"Bearer {token}")] if token else []
        if self.options.cluster:
            metadata.append(("clusterid", self.options.cluster))
        return metadata + list(self.options.headers)

    async def _serve(self, http2: Http2, call: Call) -> Ended | WireError:
        # Encoded before anything is read: claims are a view of what is held.
        requests = [await self._pieces(request) for request in self._session.connected()]
        self._counters.turned(True, self._clock())
        self._opened = anyio.current_time()
        log.info("xds connected to %s", self.options.target)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send, http2, call, requests)
            tasks.start_soon(self._keep_alive, http2)
            tasks.start_soon(self._deadlines)
            try:
                await self._receive(call)
            except (Ended, WireError) as error:
                end = error
            tasks.cancel_scope.cancel()
        return end

    async def _pieces(self, request: Request) -> list[Piece]:
        pieces: list[Piece] = []
        for piece in self._encode(request):
            pieces.append(piece)
            await asyncio.sleep(0)
        return pieces

    async def _receive(self, call: Call) -> None:
        """Read responses until the stream ends by raising."""
        while True:
            waits = call.waits
            size = left = await call.length(self.options.max_message)
            if call.waits != waits:
                self._turn = time.thread_time()
            reader, self._part = self._new_reader(), FIRST_PART
            while left:
                data = await call.piece(left)
                left -= len(data)
                self._counters.bytes_in += len(data)
                await self._feed(reader, data)
            self._finish(reader.finish(), size)
            await self._others_turn()  # the next response may be here already

    async def _others_turn(self) -> None:
        """Let the other tasks run when much was computed since they last did."""
        if time.thread_time() - self._turn > SLICE / 2:
            await asyncio.sleep(0)
            self._turn = time.thread_time()

    async def _feed(self, reader: Reader, data: bytes) -> None:
        """In parts of a few milliseconds: a policy costs fifty times as much as a workload, one
        that is known next to nothing. What takes less in all is planned at once."""
        at = 0
        while at < len(data):
            began, longest = time.thread_time(), 0.0
            part = data[at : at + self._part]
            for rows in reader.batches(part):
                for offer in self._session.part(rows):
                    self._offer(offer)
                took = time.thread_time() - began
                longest = max(longest, took)
                if took > SLICE:
                    await asyncio.sleep(0)
                    began = self._turn = time.thread_time()
            at += len(part)
            self._adapt(longest)
            await self._others_turn()

    def _adapt(self, took: float) -> None:
        if took > SLICE:
            self._part = max(self._part // 2, LEAST_PART)
        elif took < SLICE / 4:
            self._part = min(2 * self._part, MOST_PART)

    def _finish(self, envelope: Envelope, size: int) -> None:
        self._counters.messages_in += 1
        self._counters.last_message, self._answered = self._clock(), True
        for command in self._session.finish(envelope, size):
            match command:
                case Offer():
                    self._offer(command)
                case Commit():
                    due = anyio.current_time() + self.options.apply_deadline
                    self._due.append((due, command.revision))
                    self._wake_deadline.set()
                    self._commit(command)
                case _:
                    self._queue([command])

    async def _send(self, http2: Http2, call: Call, encoded: list[list[Piece]]) -> None:
        try:
            for pieces in encoded:
                await self._send_one(call, pieces)
            encoded.clear()
            while True:
                while self._outbox:
                    await self._send_one(call, await self._pieces(self._outbox.popleft()))
                self._wake_sender.clear()
                await self._wake_sender.wait()
        except Ended as end:
            http2.fate.end(end.reason, end.sentence)

    async def _send_one(self, call: Call, pieces: list[Piece]) -> None:
        self._counters.bytes_out += await call.send(pieces)
        self._counters.messages_out += 1

    async def _keep_alive(self, http2: Http2) -> None:
        """Ping a silent peer; any byte from it is a sign of life."""
        options = self.options
        while True:
            await anyio.sleep_until(http2.last_heard + options.keepalive)
            if anyio.current_time() < http2.last_heard + options.keepalive:
                continue
            http2.heard.clear()
            http2.ping()
            with anyio.move_on_after(options.keepalive_timeout):
                await http2.heard.wait()
                continue
            text = f"the peer was silent for {options.keepalive + options.keepalive_timeout:g} s"
            http2.fate.end("keepalive", text)
            http2.abort()
            return

    async def _deadlines(self) -> None:
        while True:
            while not self._due:
                self._wake_deadline.clear()
                await self._wake_deadline.wait()
            due, revision = self._due[0]
            await anyio.sleep_until(due)
            if self._due and self._due[0][1] == revision:
                self._due.popleft()
                late = self._session.expire(revision)
                self._counters.late += len(late)
                self._queue(late)
