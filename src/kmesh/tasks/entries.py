"""Records of connections and denials as entries of the access log, with names."""

from __future__ import annotations

import os
from errno import errorcode
from functools import cache
from socket import IPPROTO_TCP
from typing import TYPE_CHECKING

from kmesh.abi.layout import Direction, EventKind, Reason
from kmesh.core import addr
from kmesh.core.accesslog import COMPLETE, OPEN, OPENED, SLOW, Entry

if TYPE_CHECKING:
    from kmesh.core.labels import Ends, Labels
    from kmesh.core.records import Connection, Denial

Who = tuple[bool, int, bytes, int, int]  # arguments of Labels.ends
OUTBOUND = int(Direction.OUTBOUND)
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


class Entries:
    """Finds the names. ``epoch`` nanoseconds lie between the Unix epoch and the zero of the
    kernel's clock."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def connection(self, one: Connection, epoch: int, known: dict[Who, Ends]) -> Entry:
        """A step of a connection; ``known`` keeps who its ends are for the next ones."""
        # Taken apart and put together whole: by name each field costs as much as the tuple.
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
            now + epoch, MESSAGES[kind], outbound,
            here if outbound else there, there if outbound else here,
            ends.source, ends.destination, ends.service, sent, received, now - start,
            why(kind, refusal, error) if error or refusal else "",
            "tcp" if protocol == IPPROTO_TCP else one.protocol_name,
            retransmits, lost, rtt, min_rtt,
        ))  # fmt: skip

    def denial(self, one: Denial, epoch: int) -> Entry:
        """A connection that a policy refused where it arrived."""
        labels = self._labels
        destination = split(one.destination)
        service = labels.serving(one.destination_workload, destination[1])
        verdict = VERDICTS.get(one.reason, one.reason.replace("_", " "))
        if one.reason == "denied":
            verdict = f"explicitly denied by: {one.policy}"
        more = f" (and {one.suppressed} more)" if one.suppressed else ""
        return Entry(
            one.time + epoch, COMPLETE, False, split(one.source), destination,
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
