"""The metrics listener: everything that the agent counts, for Prometheus.

A scrape is written in slices, and the loop is given back after each: 100,000 series hold nobody
up. What a slow client has not taken after a minute it does not get.
"""

from __future__ import annotations

import logging
import time
import zlib
from typing import TYPE_CHECKING, NamedTuple

import anyio
from aiohttp import web

from kmesh.core.exposition import accepts_gzip, negotiate, render
from kmesh.tasks.collect import many, one
from kmesh.tasks.gate import GATE, UNREAD
from kmesh.tasks.listener import Listener
from kmesh.tasks.stream import endless

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from kmesh.core.exposition import Form, Metric
    from kmesh.core.options import Listen
    from kmesh.tasks.collector import Collector

log = logging.getLogger(__name__)

PATHS = ("/metrics", "/stats/prometheus", "/status/metric")
AT_ONCE = 4
DEADLINE = 60.0
GZIP = 16 + zlib.MAX_WBITS


class MetricsStatistics(NamedTuple):
    """Since start. ``seconds`` of the last scrape; ``failures`` by part; ``listening`` is where,
    empty while the address cannot be had."""

    scrapes: int
    abandoned: int
    seconds: float
    failures: Mapping[str, int]
    listening: str


class MetricsServer:
    """Serves what the collector finds, and how that went, at one address."""

    def __init__(
        self,
        address: Listen,
        collector: Collector,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collector, self._clock = collector, clock
        routes = [web.get(path, self._answer) for path in PATHS]
        self.listener = Listener("metrics", address, routes)
        self._scrapes = self._abandoned = 0
        self._seconds = 0.0
        self._room = anyio.Semaphore(AT_ONCE)

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled."""
        await self.listener.run(task_status=task_status)

    @endless
    async def _answer(self, request: web.Request) -> web.StreamResponse:
        form = negotiate(request.headers.get("Accept", ""))
        response = web.StreamResponse(headers={"Content-Type": form.content_type})
        response.headers["Vary"] = "Accept, Accept-Encoding"
        gzip = accepts_gzip(request.headers.get("Accept-Encoding", ""))
        if gzip:
            response.headers["Content-Encoding"] = "gzip"
        began, done = self._clock(), False
        try:
            async with self._room:
                with anyio.fail_after(DEADLINE):
                    await response.prepare(request)
                    if request.method != "HEAD":
                        async for piece in self._pieces(form, gzip):
                            await response.write(piece)
                    await response.write_eof()
            done = True
        except (TimeoutError, ConnectionError) as error:
            request.app[GATE].turned[UNREAD] += isinstance(error, TimeoutError)
            log.warning("a scrape was abandoned: %s", error or "its client is too slow")
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._scrapes += done
            self._abandoned += not done
            self._seconds = self._clock() - began
        return response

    async def _pieces(self, form: Form, gzip: bool) -> AsyncIterator[bytes]:
        squeeze = zlib.compressobj(1, wbits=GZIP) if gzip else None
        for piece in render([*await self._collector.collect(), *self._own()], form):
            data = squeeze.compress(piece) if squeeze else piece
            if data:
                yield data
            await anyio.lowlevel.checkpoint()
        if squeeze:
            yield squeeze.flush()

    def statistics(self) -> MetricsStatistics:
        """For dumps."""
        return MetricsStatistics(
            self._scrapes,
            self._abandoned,
            self._seconds,
            dict(self._collector.failures),
            ", ".join(self.listener.listening),
        )

    def _own(self) -> Iterator[Metric]:
        yield one("kmesh_scrapes", self._scrapes)
        yield one("kmesh_scrapes_abandoned", self._abandoned)
        yield one("kmesh_scrape_seconds", self._seconds)
        names, failures = self._collector.names(), self._collector.failures
        yield many("kmesh_scrape_failures", (((name,), failures[name]) for name in names))
