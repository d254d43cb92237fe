"""What the kernel counted, as Istio's TCP metrics and as the kernel's own quality numbers.

Semantics of ztunnel: ``received`` is what the client sent and ``sent`` what the server answered,
for both reporters (istio#32399). Opened connections and bytes have the flags ``-``; closed and
failed ones have what became of them; an attempt that fails is opened, closed and failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.catalogue import FAMILIES
from kmesh.core.exposition import Metric, Sample, label_text
from kmesh.core.labels import LABELS, UNKNOWN, label_names, values
from kmesh.core.series import Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.core.labels import Ends

FINE = "-"
DENIED = "DENY"
CONNECT = "CONNECT"

ISTIO = tuple(
    Column(FAMILIES[f"istio_tcp_{name}"])
    for name in (
        "connections_opened", "connections_closed", "connections_failed", "sent_bytes",
        "received_bytes",
    )
)  # fmt: skip
QUALITY = (
    Column(FAMILIES["kmesh_connection_retransmits"]),
    Column(FAMILIES["kmesh_connection_lost_segments"]),
    Column(FAMILIES["kmesh_connection_srtt_seconds"], "_sum"),
    Column(FAMILIES["kmesh_connection_srtt_seconds"], "_count"),
    Column(FAMILIES["kmesh_connection_min_rtt_seconds"], "_sum"),
    Column(FAMILIES["kmesh_connection_min_rtt_seconds"], "_count"),
)
QUALITY_LABELS = FAMILIES["kmesh_connection_retransmits"].labels
UDP = (Column(FAMILIES["kmesh_udp_flows"]), Column(FAMILIES["kmesh_udp_refused"]))
FAILURES = (Column(FAMILIES["kmesh_connection_failures"]),)
FAILURE_LABELS = FAMILIES["kmesh_connection_failures"].labels
# Upstream's spelling, and its labels: what is not known is "-" there.
UPSTREAM_SERVICE = tuple(
    Column(FAMILIES[f"kmesh_tcp_{name}"])
    for name in (
        "connections_opened", "connections_closed", "conntections_failed", "sent_bytes",
        "received_bytes",
    )
)  # fmt: skip
UPSTREAM_WORKLOAD = tuple(
    Column(FAMILIES[f"kmesh_tcp_{name}"])
    for name in (
        "workload_connections_opened", "workload_connections_closed",
        "workload_conntections_failed", "workload_sent_bytes", "workload_received_bytes",
        "retrans", "packet_loss",
    )
)  # fmt: skip
POD_LABELS = FAMILIES["kmesh_tcp_workload_sent_bytes"].labels


class Counts(NamedTuple):
    """What happened to connections of a kind since the last time: all are differences.

    Bytes are as the pod's own socket sees them; ``srtt`` and ``min_rtt`` are sums of seconds over
    ``rtts`` connections.
    """

    opened: int = 0
    closed: int = 0
    failed: int = 0
    sent: int = 0
    received: int = 0
    retransmits: int = 0
    lost: int = 0
    srtt: float = 0.0
    min_rtt: float = 0.0
    rtts: int = 0


class TrafficSeries:
    """All series that come from the kernel's counters of connections."""

    def __init__(self, most: int, upstream: bool = False) -> None:
        """``most`` label sets in each table; ``upstream`` adds upstream's own names."""
        self.tables = {
            "istio": Table(ISTIO, most),
            "quality": Table(QUALITY, most),
            "failures": Table(FAILURES, most),
            "udp": Table(UDP, most),
        }
        if upstream:
            self.tables["upstream_service"] = Table(UPSTREAM_SERVICE, most)
            self.tables["upstream_workload"] = Table(UPSTREAM_WORKLOAD, most)

    def count(
        self, ends: Ends, flags: str, counts: Counts, reason: str = "", address: str = ""
    ) -> None:
        """Add what happened. ``flags`` are those of ends and failures, ``reason`` says why connects
        failed, ``address`` is the server's (upstream's labels have it)."""
        sent, received = counts.received, counts.sent
        if not ends.outbound:
            sent, received = received, sent
        opened, closed = counts.opened + counts.failed, counts.closed + counts.failed
        istio = self.tables["istio"]
        base = values(ends, FINE)
        names = label_names(base)
        if opened or sent or received:
            istio.add(names, base, (opened, None, None, sent, received))
        if closed:
            failed = counts.failed or None
            istio.add(names, values(ends, flags), (None, closed, failed, None, None))
        if counts.failed:
            labels = (*_pair(ends), flags, reason or UNKNOWN)
            self.tables["failures"].add(FAILURE_LABELS, labels, (counts.failed,))
        if counts.retransmits or counts.lost or counts.rtts:
            rtts = (counts.srtt, counts.rtts, counts.min_rtt, counts.rtts) if counts.rtts else ()
            amounts = (counts.retransmits, counts.lost, *rtts)
            self.tables["quality"].add(QUALITY_LABELS, _pair(ends), amounts)
        if "upstream_service" in self.tables:
            self._upstream(ends, counts, address)

    def count_udp(self, ends: Ends, counts: Counts) -> None:
        """Add flows that began, and datagrams that were refused."""
        amounts = (counts.opened or None, counts.failed or None)
        self.tables["udp"].add(QUALITY_LABELS, _pair(ends), amounts)

    def metrics(self) -> Iterator[Metric]:
        """Every series, and how many there are."""
        for table in self.tables.values():
            yield from table.metrics()
        found = {name: table.statistics() for name, table in self.tables.items()}
        for family, field in (
            ("kmesh_series", "rows"),
            ("kmesh_series_limit", "most"),
            ("kmesh_series_evicted", "evicted"),
        ):
            rows = ((name, getattr(each, field)) for name, each in found.items())
            samples = [Sample(label_text(("table",), (name,)), value) for name, value in rows]
            yield Metric(FAMILIES[family], samples)

    def _upstream(self, ends: Ends, counts: Counts, address: str) -> None:
        """Upstream's rules: bytes as the reporter's own socket sees them, flags always ``-``."""
        amounts = (*counts[:2], counts.failed or None, counts.sent, counts.received)
        labels = tuple(dashed(value) for value in values(ends, FINE)[: len(LABELS)])
        self.tables["upstream_service"].add(LABELS, labels, amounts)
        pod = (address, ends.destination.namespace, ends.destination.pod)
        labels = (*labels[:9], *(value or "-" for value in pod), *labels[12:])
        self.tables["upstream_workload"].add(
            POD_LABELS, labels, (*amounts, counts.retransmits, counts.lost)
        )


def dashed(value: str) -> str:
    """Upstream's word for what is not known."""
    return "-" if value == UNKNOWN else value


def _pair(ends: Ends) -> tuple[str, ...]:
    found = (
        "source" if ends.outbound else "destination",
        ends.source.workload, ends.source.namespace,
        ends.destination.workload, ends.destination.namespace, ends.service.hostname,
    )  # fmt: skip
    return tuple([value or UNKNOWN for value in found])
