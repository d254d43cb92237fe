"""Lines of the access log: keys and order of ztunnel, as text or as JSON.

What ztunnel does not have (protocol when it is not TCP, retransmissions, loss, round trip times)
comes after its keys. ``*.identity`` and ``dst.hbone_addr`` are left out as ztunnel does without
mutual TLS.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.addr import host_port
from kmesh.core.labels import NO_SERVICE, NOBODY, Names, ServiceName

if TYPE_CHECKING:
    from kmesh.core.events import Json

SCOPE = "access"
COMPLETE, OPENED, OPEN = "connection complete", "connection opened", "connection open"
SLOW = "connection was slow to open"


class Entry(NamedTuple):
    """One line. ``time`` is nanoseconds since the epoch, ``duration`` nanoseconds, addresses are
    16 bytes, bytes are as the reporter's own socket sees them, round trip times microseconds.

    The source is the client and the destination the server, for both directions.
    """

    time: int
    message: str
    outbound: bool
    source: tuple[bytes, int]
    destination: tuple[bytes, int]
    client: Names = NOBODY
    server: Names = NOBODY
    service: ServiceName = NO_SERVICE
    sent: int = 0
    received: int = 0
    duration: int = 0
    error: str = ""
    protocol: str = "tcp"
    retransmits: int = 0
    lost: int = 0
    srtt: int = 0
    min_rtt: int = 0

    @property
    def level(self) -> str:
        """Of ztunnel: errors are those, an opening is for debugging."""
        if self.error:
            return "error"
        return "debug" if self.message in (OPENED, OPEN) else "info"


def fields(entry: Entry) -> dict[str, Json]:
    """Keys and values in order; what is not known is left out."""
    found: dict[str, Json] = {"src.addr": host_port(*entry.source)}
    found |= _side("src", entry.client)
    found["dst.addr"] = host_port(*entry.destination)
    if entry.service.hostname:
        found["dst.service"] = entry.service.hostname
    found |= _side("dst", entry.server)
    found["direction"] = "outbound" if entry.outbound else "inbound"
    found["bytes_sent"] = entry.sent
    found["bytes_recv"] = entry.received
    found["duration"] = f"{entry.duration // 1_000_000}ms"
    if entry.error:
        found["error"] = entry.error
    if entry.protocol != "tcp":
        found["protocol"] = entry.protocol
    more = {"retransmissions": entry.retransmits, "packet_loss": entry.lost}
    found |= {key: value for key, value in more.items() if value}
    times = {"srtt": entry.srtt, "min_rtt": entry.min_rtt}
    return {**found, **{key: f"{value}us" for key, value in times.items() if value}}


def text_line(entry: Entry, stamp: str) -> str:
    """Time, level, scope, message and pairs, tabs between them; ``stamp`` is the time as text."""
    pairs = " ".join([f"{key}={_plain(key, value)}" for key, value in fields(entry).items()])
    return f"{stamp}\t{entry.level}\t{SCOPE}\t{entry.message}\t{pairs}\n"


def json_line(entry: Entry, stamp: str) -> str:
    """One JSON object."""
    head = {"level": entry.level, "time": stamp, "scope": SCOPE, "message": entry.message}
    return json.dumps({**head, **fields(entry)}, ensure_ascii=False) + "\n"


def _side(prefix: str, names: Names) -> dict[str, Json]:
    found: dict[str, Json] = {}
    if workload := names.pod or names.canonical:
        found[f"{prefix}.workload"] = workload
    if names.namespace:
        found[f"{prefix}.namespace"] = names.namespace
    if names.cluster:
        found[f"{prefix}.cluster"] = names.cluster
    return found


def _plain(key: str, value: Json) -> str:
    """Addresses and numbers bare, everything else in quotes, as ztunnel writes them."""
    if key.endswith(".addr") or isinstance(value, int):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
