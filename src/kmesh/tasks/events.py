"""``GET /events``: what the ring tells, live, a JSON object a line, to a few followers.

A follower that reads too slowly loses records, and is told how many; one that reads nothing at all
is sent away. Nobody else waits for either.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.lowlevel
import orjson
from aiohttp import web

from kmesh.core.live import Wanted, view, who
from kmesh.core.switches import Held
from kmesh.errors import KmeshError
from kmesh.tasks.gate import GATE, UNREAD
from kmesh.tasks.stream import endless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmesh.core.labels import Labels
    from kmesh.core.live import View
    from kmesh.core.records import Batch
    from kmesh.tasks.admin_context import Context
    from kmesh.tasks.ring import RingReader

FOLLOWERS = 8
KEPT = 1024  # records that wait for one follower
PART = 128  # records in one write
BEAT = 5.0  # seconds of silence before an empty line shows whether the follower is there
WRITE_WITHIN = 10.0


class BadQuestion(KmeshError):
    """A parameter of a request cannot be understood."""

    code = "KM1707"
    next_step = "As GET /events?pod=shop/web-0&denied=1&limit=100."


class TooManyFollowers(KmeshError):
    """More follow the events than the agent serves at once."""

    code = "KM1706"
    next_step = "End another `kmesh tail`, or read the access log."


class EventStatistics(NamedTuple):
    """``followers`` and records ``waiting`` for them now; since start records ``sent`` to any and
    ``dropped`` because one was slow, and followers ``ended`` because they read nothing."""

    followers: int
    waiting: int
    sent: int
    dropped: int
    ended: int


class Follower:
    """One reader's records, and how many it has lost."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.waiting: deque[View] = deque()
        self.lost = 0
        self.ready = anyio.Event()

    def offer(self, found: View) -> bool:
        """Keep a record; False when the oldest had to go."""
        full = len(self.waiting) >= KEPT
        if full:
            self.waiting.popleft()
            self.lost += 1
        self.waiting.append(found)
        self.ready.set()
        return not full

    def take(self) -> list[View]:
        """What waits, at most PART; a loss is told first."""
        found: list[View] = []
        if self.lost:
            found.append({"dropped": self.lost})
            self.lost = 0
        found += [self.waiting.popleft() for _ in range(min(PART, len(self.waiting)))]
        return found


class Events:
    """Follows the ring while anybody follows it. ``watch`` is told what the programs must record
    for the followers, whenever that changes: of policies' denials they always do."""

    def __init__(
        self, ring: RingReader, labels: Labels, watch: Callable[[Held], None] = lambda _: None
    ) -> None:
        self._ring, self._labels, self._watch = ring, labels, watch
        self._followers: list[Follower] = []
        self._held = Held.NOTHING
        self._stop: Callable[[], None] | None = None
        self._sent = self._dropped = self._ended = 0

    @contextmanager
    def follow(self, wanted: Wanted) -> Iterator[Follower]:
        """A follower until the block ends; raises TooManyFollowers."""
        if len(self._followers) >= FOLLOWERS:
            raise TooManyFollowers(f"{FOLLOWERS} follow the events already")
        made = Follower(wanted)
        self._followers.append(made)
        self._tell()
        if self._stop is None:
            self._stop = self._ring.subscribe(self._take)
        try:
            yield made
        finally:
            self._followers.remove(made)
            if not self._followers and self._stop is not None:
                self._stop()
                self._stop = None
            self._tell()

    def _tell(self) -> None:
        needs = (Held.REFUSALS if each.wanted.denied else Held.ALL for each in self._followers)
        held = max(needs, default=Held.NOTHING)
        if held is not self._held:
            self._held = held
            self._watch(held)

    @endless
    async def show(self, request: web.Request) -> web.StreamResponse:
        """``?pod=&service=&denied=&limit=``: until so many records, or until the client goes."""
        wanted, limit = asked(request)
        with self.follow(wanted) as follower:
            response = web.StreamResponse()
            response.content_type = "application/x-ndjson"
            response.enable_chunked_encoding()
            try:
                await response.prepare(request)
                await self._serve(follower, response, limit)
            except (ConnectionError, TimeoutError) as error:
                request.app[GATE].turned[UNREAD] += isinstance(error, TimeoutError)
                self._ended += 1
            return response

    async def _serve(
        self, follower: Follower, response: web.StreamResponse, limit: int | None
    ) -> None:
        left = limit
        while left is None or left > 0:
            found = follower.take()
            if not found:
                follower.ready = anyio.Event()
                with anyio.move_on_after(BEAT):
                    await follower.ready.wait()
                found = follower.take()
            if left is not None:
                found = found[:left]
                left -= sum("dropped" not in each for each in found)
            lines = b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in found)
            with anyio.fail_after(WRITE_WITHIN):
                await response.write(lines or b"\n")
            self._sent += len(found)
            await anyio.lowlevel.checkpoint()  # writing into a buffer that has room does not yield
        await response.write_eof()

    def statistics(self) -> EventStatistics:
        """For metrics and dumps."""
        followers = self._followers
        waiting = sum(len(each.waiting) for each in followers)
        return EventStatistics(len(followers), waiting, self._sent, self._dropped, self._ended)

    def _take(self, batch: Batch) -> None:
        epoch = time.time_ns() - time.monotonic_ns()
        for record in batch.records:
            found = who(record, self._labels)
            asking = [each for each in self._followers if each.wanted.matches(found)]
            if asking:
                shown = view(record, found, epoch)
                self._dropped += sum(not each.offer(shown) for each in asking)


def routes(context: Context) -> list[web.RouteDef]:
    """GET /events."""
    return [web.get("/events", context.events.show)]


def asked(request: web.Request) -> tuple[Wanted, int | None]:
    """What a request asks for; raises BadQuestion."""
    query = request.query
    raw = query.get("limit", "")
    if raw and not (raw.isascii() and raw.isdigit() and len(raw) < 10):
        raise BadQuestion(f"limit {raw!r} is no number")
    denied = query.get("denied", "").lower() in ("1", "t", "true")
    wanted = Wanted(query.get("pod", ""), query.get("service", ""), denied)
    return wanted, int(raw) if raw else None
