"""What the kernel says of connections, with names: counters become series, records become lines of
the access log and what is exported of it."""

from __future__ import annotations

import time
from errno import EACCES
from socket import IPPROTO_UDP
from typing import TYPE_CHECKING

import anyio

from kmesh.abi.layout import Direction
from kmesh.core import addr
from kmesh.core.accesslog import SLOW
from kmesh.core.istio import CONNECT, DENIED, FINE, Counts
from kmesh.core.records import Batch, Connection
from kmesh.tasks.entries import Entries, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kmesh.core.accesslog import Entry
    from kmesh.core.istio import TrafficSeries
    from kmesh.core.labels import Ends, Labels
    from kmesh.core.switches import Settings
    from kmesh.core.traffic import Row
    from kmesh.tasks.entries import Who
    from kmesh.tasks.lines import LineMaker

TURN = 5.0
PATIENCE = 60.0
LOOK = 0.1
ROOM = 20_000


class Telemetry:
    """Give it rows of counters (``count``) and records (``take``), on the loop.

    ``lines`` gets every record, to write what is to be logged; ``logs`` gets entries of the same,
    ``spans`` those that failed or were slow to open: they cost ten times as much. What comes
    before the mesh is known (``ready``) has no names yet: it waits, for a minute at most.
    """

    def __init__(
        self,
        labels: Labels,
        series: TrafficSeries,
        lines: LineMaker | None = None,
        logs: Sequence[Callable[[Sequence[Entry]], None]] = (),
        spans: Callable[[Sequence[Entry]], None] | None = None,
        ready: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._labels, self._series, self._clock = labels, series, clock
        self._lines, self._logs, self._spans = lines, logs, spans
        self._entries = Entries(labels)
        self._settings: Settings | None = None
        self._turned = clock()
        self._ready, self._patience = ready, clock() + PATIENCE
        self._known = False
        self._rows: list[Row] = []
        self._batches: list[Batch] = []

    def switched(self, settings: Settings) -> None:
        """The switches are like this from now on."""
        self._settings = settings
        if self._lines is not None:
            self._lines.switched(settings)

    def count(self, rows: Sequence[Row]) -> None:
        """Counters grew by this much."""
        self._turn()
        if self._settings is not None and not self._settings.metrics:
            return
        if self._waits(len(self._rows) + len(rows)):
            self._rows.extend(rows)
            return
        rows, self._rows = [*self._rows, *rows], []
        for key, grown in rows:
            outbound = key.direction == Direction.OUTBOUND
            ends = self._labels.ends(outbound, key.workload, key.remote, key.service, key.port)
            counts = Counts(
                grown.opened, grown.closed, grown.failed, grown.sent, grown.received,
                grown.retransmits, grown.lost, grown.rtt_us / 1e6, grown.min_rtt_us / 1e6,
                grown.closed,
            )  # fmt: skip
            if key.protocol == IPPROTO_UDP:
                self._series.count_udp(ends, counts)
                continue
            flags = FINE if not key.result else DENIED if key.result == EACCES else CONNECT
            server = key.remote if outbound else self._labels.address(key.workload, key.remote)
            where = addr.text(server) if server else ""
            self._series.count(ends, flags, counts, reason(key.result), where)

    def take(self, batch: Batch) -> None:
        """Records of the ring, in its order."""
        self._turn()
        if self._waits(sum(map(len, self._batches)) + len(batch)):
            self._batches.append(batch)
            return
        batches, self._batches = [*self._batches, batch], []
        epoch = time.time_ns() - time.monotonic_ns()
        for each in batches:
            if self._lines is not None:
                self._lines.take(each, epoch)
            if self._logs or self._spans is not None:
                self._export(each, epoch)

    @property
    def waiting(self) -> int:
        """Rows and records that have no names yet."""
        return len(self._rows) + sum(map(len, self._batches))

    async def run(self) -> None:
        """Until the mesh is known: then what waited goes on, also when nothing more comes."""
        while not self._known:
            await anyio.sleep(LOOK)
            if self._ready() or self._clock() >= self._patience:
                self.flush()

    def flush(self) -> None:
        """Nothing waits any longer."""
        self._known = True
        self.count(())
        self.take(Batch(b"", {}))

    def _waits(self, rows: int) -> bool:
        """Whether so many are kept for later: while names are missing, patience lasts and there is
        room."""
        self._known = self._known or self._ready() or self._clock() >= self._patience
        return not self._known and rows <= ROOM

    def _export(self, batch: Batch, epoch: int) -> None:
        settings = self._settings
        logged, noted = [], []
        known: dict[Who, Ends] = {}  # many records are about few pairs
        for record in batch.records:
            if isinstance(record, Connection):
                entry = self._entries.connection(record, epoch, known)
            elif record.dry_run:
                continue
            else:
                entry = self._entries.denial(record, epoch)
            slow = entry.message == SLOW
            if not slow and settings is not None and settings.logs(entry.namespace):
                logged.append(entry)
            if entry.error or slow:
                noted.append(entry)
        for put in self._logs if logged else ():
            put(logged)
        if noted and self._spans is not None:
            self._spans(noted)

    def _turn(self) -> None:
        now = self._clock()
        if now - self._turned >= TURN:
            self._turned = now
            self._labels.turn()
