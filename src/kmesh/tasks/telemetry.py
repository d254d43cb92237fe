"""What the kernel says of connections, with names: counters become series, records become lines of
the access log and what is exported of it."""

from __future__ import annotations

import os
import time
from errno import EACCES, errorcode
from functools import cache
from socket import IPPROTO_TCP, IPPROTO_UDP
from typing import TYPE_CHECKING, TypeVar

import anyio

from kmesh.abi.layout import Direction, EventKind, Reason
from kmesh.core import addr
from kmesh.core.accesslog import COMPLETE, OPEN, OPENED, SLOW, Entry
from kmesh.core.istio import CONNECT, DENIED, FINE, Counts
from kmesh.core.records import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kmesh.core.istio import TrafficSeries
    from kmesh.core.labels import Ends, Labels
    from kmesh.core.records import Denial, Record
    from kmesh.core.switches import Settings
    from kmesh.core.traffic import Row

T = TypeVar("T")
Who = tuple[bool, int, bytes, int, int]  # arguments of Labels.ends
TURN = 5.0
OUTBOUND = int(Direction.OUTBOUND)
PATIENCE = 60.0
LOOK = 0.1
ROOM = 20_000
MESSAGES: dict[int, str] = {
    EventKind.OPEN: OPENED,
    EventKind.PERIODIC: OPEN,
    EventKind.CLOSE: COMPLETE,
    EventKind.FAILED: COMPLETE,
    EventKind.SLOW: SLOW,
}
# ztunnel's words.
REJECTED = "connection closed due to policy rejection"
VERDICTS = {"not_allowed": "allow policies exist, but none allowed"}


class Telemetry:
    """Give it rows of counters (``count``) and records (``take``), on the loop.

    ``logs`` gets the entries that are to be logged, ``spans`` those that failed or were slow to
    open. What comes before the mesh is known (``ready``) has no names yet: it waits, for a minute
    at most.
    """

    def __init__(
        self,
        labels: Labels,
        series: TrafficSeries,
        logs: Sequence[Callable[[Sequence[Entry]], None]] = (),
        spans: Callable[[Sequence[Entry]], None] | None = None,
        ready: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._labels, self._series, self._clock = labels, series, clock
        self._logs, self._spans = logs, spans
        self._settings: Settings | None = None
        self._turned = clock()
        self._ready, self._patience = ready, clock() + PATIENCE
        self._known = False
        self._rows: list[Row] = []
        self._records: list[Record] = []

    def switched(self, settings: Settings) -> None:
        """The switches are like this from now on."""
        self._settings = settings

    def count(self, rows: Sequence[Row]) -> None:
        """Counters grew by this much."""
        self._turn()
        if self._settings is not None and not self._settings.metrics:
            return
        if self._waits(self._rows, rows):
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

    def take(self, records: Sequence[Record]) -> None:
        """Records of the ring, in its order."""
        self._turn()
        if self._waits(self._records, records):
            return
        records, self._records = [*self._records, *records], []
        settings = self._settings
        offset = time.time_ns() - time.monotonic_ns()
        logged, noted = [], []
        known: dict[Who, Ends] = {}  # many records are about few pairs
        for record in records:
            entry = self._entry(record, offset, known)
            if entry is None:
                continue
            slow = entry.message == SLOW
            mine = entry.client if entry.outbound else entry.server
            if not slow and settings is not None and settings.logs(mine.namespace):
                logged.append(entry)
            if entry.error or slow:
                noted.append(entry)
        for put in self._logs if logged else ():
            put(logged)
        if noted and self._spans is not None:
            self._spans(noted)

    @property
    def waiting(self) -> int:
        """Rows and records that have no names yet."""
        return len(self._rows) + len(self._records)

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
        self.take(())

    def _waits(self, kept: list[T], more: Sequence[T]) -> bool:
        """Whether more is kept for later: while names are missing, patience lasts and there is
        room."""
        self._known = self._known or self._ready() or self._clock() >= self._patience
        if self._known or len(kept) + len(more) > ROOM:
            return False
        kept.extend(more)
        return True

    def _turn(self) -> None:
        now = self._clock()
        if now - self._turned >= TURN:
            self._turned = now
            self._labels.turn()

    def _entry(self, record: Record, offset: int, known: dict[Who, Ends]) -> Entry | None:
        if isinstance(record, Connection):
            return self._connection(record, offset, known)
        return None if record.dry_run else self._denial(record, offset)

    def _connection(self, one: Connection, offset: int, known: dict[Who, Ends]) -> Entry:
        """Taken apart and put together whole: by name each field costs as much as the tuple."""
        (
            now, start, _, sent, received, _, local, remote, _, workload, service, _, rtt,
            min_rtt, retransmits, lost, local_port, remote_port, _, error, kind, refusal, protocol,
            direction,
        ) = one  # fmt: skip
        outbound = direction == OUTBOUND
        who = outbound, workload, remote, service, 0 if outbound else local_port
        ends = known.get(who)
        if ends is None:
            ends = known[who] = self._labels.ends(*who)
        here, there = (local, local_port), (remote, remote_port)
        return Entry._make((
            now + offset, MESSAGES[kind], outbound,
            here if outbound else there, there if outbound else here,
            ends.source, ends.destination, ends.service, sent, received, now - start,
            why(kind, refusal, error) if error or refusal else "",
            "tcp" if protocol == IPPROTO_TCP else one.protocol_name,
            retransmits, lost, rtt, min_rtt,
        ))  # fmt: skip

    def _denial(self, one: Denial, offset: int) -> Entry:
        """A connection that a policy refused where it arrived."""
        labels = self._labels
        destination = split(one.destination)
        service = labels.serving(one.destination_workload, destination[1])
        verdict = VERDICTS.get(one.reason, one.reason.replace("_", " "))
        if one.reason == "denied":
            verdict = f"explicitly denied by: {one.policy}"
        more = f" (and {one.suppressed} more)" if one.suppressed else ""
        return Entry(
            one.time + offset, COMPLETE, False, split(one.source), destination,
            labels.names(one.source_workload), labels.names(one.destination_workload),
            labels.service_named(service), error=f"{REJECTED}: {verdict}{more}",
            protocol=one.protocol,
        )  # fmt: skip


@cache
def why(kind: int, refusal: int, error: int) -> str:
    """What became of a connection that did not end well; kinds, reasons and errnos are few."""
    if refusal:
        return f"connection refused by the mesh: {Reason(refusal).name.lower().replace('_', ' ')}"
    what = "failed" if kind == EventKind.FAILED else "closed"
    return f"connection {what}: {os.strerror(error)} (os error {error})"


def reason(error: int) -> str:
    """``econnrefused`` of 111; empty without an error."""
    return errorcode.get(error, str(error)).lower() if error else ""


def split(host_port: str) -> tuple[bytes, int]:
    """Address and port of ``10.0.0.1:80`` or ``[fd00::1]:80``."""
    host, _, port = host_port.rpartition(":")
    return addr.parse(host.strip("[]")), int(port)
