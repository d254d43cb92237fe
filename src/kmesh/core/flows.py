"""Counters of connections, summed up for services, workloads and the lines between them."""

from __future__ import annotations

from errno import EACCES, EPERM
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kmesh.abi.layout import Hook, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kmesh.abi.layout import Traffic
    from kmesh.core.rates import Counts, Window

Row = dict[str, Any]
"""One row of an answer, of what JSON can say."""

_Key = TypeVar("_Key")
COLUMNS = (
    "opened", "closed", "failed", "refused", "sent", "received",
    "rtt_us", "rtts", "retransmits", "lost",
)  # fmt: skip
"""Columns of ``Counts`` here: connections opened, closed, failed and refused by the mesh; bytes
sent and received by the workload of this node; the sum of ``rtts`` smoothed round-trip times in
microseconds; segments sent again and segments given up."""

CLIENT = (Hook.CONNECT4, Hook.CONNECT6, Hook.SENDMSG4, Hook.SENDMSG6)
SERVER = (Hook.LOOKUP, Hook.INGRESS)
OPENED, CLOSED, FAILED, REFUSED, SENT, RECEIVED, RTT_US, RTTS, RETRANSMITS, LOST = range(10)


class Flow(NamedTuple):
    """Between a workload of this node (uid) and somebody else, through a service or not.

    ``service`` is ``<namespace>/<hostname>`` or empty, ``peer`` a uid or an address, ``inbound``
    whether the peer connected to the workload.
    """

    workload: str
    service: str
    peer: str
    inbound: bool


class Line(NamedTuple):
    """What the topology draws: from a caller to a workload, or from a workload to a ``service`` or
    straight to a peer."""

    source: str
    target: str
    inbound: bool
    service: bool = False


class Sums(NamedTuple):
    """Growth in a window, seen from each side."""

    seconds: float | None
    services: dict[str, Counts]
    workloads: dict[str, Counts]
    lines: dict[Line, Counts]
    total: Counts


def sums(window: Window[Flow]) -> Sums:
    """Add up a window's flows. A connection between two workloads of this node is counted at both
    of them, and once in ``total``: where it was opened."""
    services: dict[str, Counts] = {}
    workloads: dict[str, Counts] = {}
    lines: dict[Line, Counts] = {}
    total = (0,) * len(COLUMNS)
    for flow, counts in window.counted.items():
        _add(workloads, flow.workload, counts)
        if flow.inbound:
            _add(lines, Line(flow.peer, flow.workload, True), counts)
            continue
        total = plus(total, counts)
        if flow.service:
            _add(services, flow.service, counts)
        to = flow.service or flow.peer
        _add(lines, Line(flow.workload, to, False, bool(flow.service)), counts)
    return Sums(window.seconds, services, workloads, lines, total)


def rates(counts: Counts | None, seconds: float | None) -> Row:
    """One row's rates: connections and bytes per second, the mean round-trip time in milliseconds.

    Everything is None without two samples; the round-trip time also when none was measured.
    """
    if seconds is None:
        return dict.fromkeys(NAMES)
    if counts is None:
        return {**dict.fromkeys(NAMES, 0.0), "rtt_ms": None}
    found: Row = {name: counts[at] / seconds for name, at in RATES}
    found["rtt_ms"] = counts[RTT_US] / counts[RTTS] / 1000 if counts[RTTS] else None
    return found


RATES = (
    ("connections", OPENED), ("failed", FAILED), ("refused", REFUSED), ("sent", SENT),
    ("received", RECEIVED), ("retransmits", RETRANSMITS),
)  # fmt: skip
NAMES = (*(name for name, _ in RATES), "rtt_ms")
"""Every rate of a row."""


def busiest(lines: dict[Line, Counts], most: int) -> Iterator[tuple[Line, Counts]]:
    """The lines with the most connections and errors, then bytes; equal ones by name."""
    ordered = sorted(lines.items(), key=lambda item: (*_weight(item[1]), item[0]))
    yield from ordered[:most]


def counts_of(result: int, traffic: Traffic) -> Counts:
    """The kernel's counters as columns; ``result`` is the errno by which connections failed."""
    refused = result in (EACCES, EPERM)
    return (
        traffic.opened, traffic.closed, 0 if refused else traffic.failed,
        traffic.failed if refused else 0, traffic.sent, traffic.received, traffic.rtt_us,
        traffic.closed, traffic.retransmits, traffic.lost,
    )  # fmt: skip


def refusals(reasons: Mapping[tuple[Hook, Reason], int]) -> int:
    """How many connections and datagrams the programs refused, of how each of them ended."""
    total = 0
    for (hook, reason), count in reasons.items():
        if hook in CLIENT and Reason.NO_ENDPOINT <= reason <= Reason.INCONSISTENT:
            total += count
        elif hook in CLIENT and reason is Reason.OPENED:
            total -= count  # counted twice: for its reason, and as let through in spite of it
        elif hook in SERVER and Reason.DENIED <= reason <= Reason.UNLISTED:
            total += count
    return total


def plus(a: Counts, b: Counts) -> Counts:
    """Column by column."""
    return tuple(map(sum, zip(a, b, strict=True)))


def _weight(counts: Counts) -> tuple[int, int]:
    tries = counts[OPENED] + counts[FAILED] + counts[REFUSED]
    return -tries, -(counts[SENT] + counts[RECEIVED])


def _add(into: dict[_Key, Counts], key: _Key, counts: Counts) -> None:
    have = into.get(key)
    into[key] = counts if have is None else plus(have, counts)
