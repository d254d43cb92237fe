"""Export over OTLP/HTTP: metrics at an interval, lines of the access log as log records, and spans
for connections that failed or were slow to open.

The exporters are those of the OpenTelemetry SDK: encoding, retries, compression, TLS and the
OTEL_EXPORTER_OTLP_* variables are theirs. They block, so they run in a thread of their own; what
arrives faster than they send is dropped and counted.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread

from kmesh.errors import KmeshError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kmesh.core.accesslog import Entry
    from kmesh.tasks.collector import Collector
    from kmesh.tasks.otlp_data import Reading

log = logging.getLogger(__name__)

ROOM = 10_000
BATCH = 1000
EVERY = 1.0
SLICE = 2000
SIGNALS = ("metrics", "logs", "spans")


class OtlpError(KmeshError):
    """Export over OTLP was asked for and is not possible."""

    code = "KM1501"
    next_step = "Install kmesh with the extra `otlp`, or leave --otlp-endpoint out."


class OtlpStatistics(NamedTuple):
    """Metric points, log records and spans since start, by signal: sent, refused by the other
    side or not sent in time, dropped because the queue was full; and those that wait now."""

    sent: Mapping[str, int]
    failed: Mapping[str, int]
    dropped: Mapping[str, int]
    waiting: Mapping[str, int]


class Otlp:
    """Sends to ``endpoint`` (a base URL); raises OtlpError where the SDK is missing."""

    def __init__(
        self,
        endpoint: str,
        collector: Collector,
        attributes: Mapping[str, str],
        interval: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            from kmesh.tasks.otlp_data import Exporters
        except ImportError as error:
            raise OtlpError(f"the OpenTelemetry SDK is missing: {error}") from error
        self._exporters = Exporters(endpoint, attributes, int(clock() * 1e9))
        self._endpoint, self._collector, self._interval = endpoint, collector, interval
        self._clock = clock
        self._queues: dict[str, deque[Entry]] = {"logs": deque(), "spans": deque()}
        self._sent, self._failed, self._dropped = Counter[str](), Counter[str](), Counter[str]()
        self._threads = {signal: anyio.CapacityLimiter(1) for signal in SIGNALS}
        self._down: set[str] = set()

    def put_logs(self, entries: Iterable[Entry]) -> None:
        """Queue lines of the access log."""
        self._put("logs", entries)

    def put_spans(self, entries: Iterable[Entry]) -> None:
        """Queue connections that failed or were slow."""
        self._put("spans", entries)

    async def run(self) -> None:
        """Export until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._metrics)
            tasks.start_soon(self._entries, "logs", self._exporters.logs)
            tasks.start_soon(self._entries, "spans", self._exporters.spans)

    def statistics(self) -> OtlpStatistics:
        """For metrics and dumps."""
        sent, failed, dropped = (
            {signal: counts[signal] for signal in SIGNALS}
            for counts in (self._sent, self._failed, self._dropped)
        )
        waiting = {signal: len(queue) for signal, queue in self._queues.items()}
        return OtlpStatistics(sent, failed, dropped, waiting)

    def _put(self, signal: str, entries: Iterable[Entry]) -> None:
        queue = self._queues[signal]
        for entry in entries:
            if len(queue) >= ROOM:
                self._dropped[signal] += 1
            else:
                queue.append(entry)

    async def _metrics(self) -> None:
        while True:
            reading: Reading = []
            for family, samples in await self._collector.collect():
                taken = []
                for sample in samples:
                    taken.append(sample)
                    if not len(taken) % SLICE:
                        await anyio.lowlevel.checkpoint()
                if taken:
                    reading.append((family, taken))
                await anyio.lowlevel.checkpoint()
            count = sum(len(samples) for _, samples in reading)
            now = int(self._clock() * 1e9)
            await self._send("metrics", count, partial(self._exporters.metrics, reading, now))
            await anyio.sleep(self._interval)

    async def _entries(self, signal: str, export: Callable[[Sequence[Entry]], bool]) -> None:
        queue = self._queues[signal]
        while True:
            if len(queue) < BATCH:
                await anyio.sleep(EVERY)
            batch = [queue.popleft() for _ in range(min(len(queue), BATCH))]
            if batch:
                await self._send(signal, len(batch), partial(export, batch))

    async def _send(self, signal: str, count: int, export: Callable[[], bool]) -> None:
        """One export, in the thread of its signal. An exporter may retry for long: when the agent
        ends nobody waits for it."""
        ok = await anyio.to_thread.run_sync(
            export, limiter=self._threads[signal], abandon_on_cancel=True
        )
        (self._sent if ok else self._failed)[signal] += count
        if ok and signal in self._down:
            self._down.discard(signal)
            log.info("%s takes our %s again", self._endpoint, signal)
        elif not ok and signal not in self._down:
            self._down.add(signal)
            log.error("%s does not take our %s", self._endpoint, signal)
