"""Lines of the access log: keys and order of ztunnel, as text or as JSON.

What ztunnel does not have (protocol when it is not TCP, retransmissions, loss, round trip times)
comes after its keys. ``*.identity`` and ``dst.hbone_addr`` are left out as ztunnel does without
mutual TLS.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.addr import host_port
from kmesh.core.labels import NO_SERVICE, NOBODY, Names, ServiceName

if TYPE_CHECKING:
    from kmesh.core.events import Json

SCOPE = "access"
KEPT = 4096  # ends of connections whose text is remembered
_quoted = json.JSONEncoder(ensure_ascii=False).encode
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
    return {
        "src.addr": host_port(*entry.source),
        **_end("src", NO_SERVICE, entry.client),
        "dst.addr": host_port(*entry.destination),
        **_end("dst", entry.service, entry.server),
        "direction": "outbound" if entry.outbound else "inbound",
        "bytes_sent": entry.sent,
        "bytes_recv": entry.received,
        "duration": f"{entry.duration // 1_000_000}ms",
        **_rest(entry),
    }


# Lines are written by the ten thousand: what they say of an end is made once.


def text_line(entry: Entry, stamp: str) -> str:
    """Time, level, scope, message and pairs, tabs between them; ``stamp`` is the time as text.
    Addresses and numbers are bare, everything else in quotes, as ztunnel writes them."""
    _, message, outbound, source, destination, client, server, service, sent, got, took, *_ = entry
    rest = "".join([f" {key}={_quoted(value)}" for key, value in _rest(entry).items()])
    return (
        f"{stamp}\t{entry.level}\t{SCOPE}\t{message}\t"
        f"src.addr={host_port(*source)} {_text_end('src', NO_SERVICE, client)}"
        f"dst.addr={host_port(*destination)} {_text_end('dst', service, server)}"
        f'direction="{"outbound" if outbound else "inbound"}" bytes_sent={sent} bytes_recv={got} '
        f'duration="{took // 1_000_000}ms"{rest}\n'
    )


def json_line(entry: Entry, stamp: str) -> str:
    """One JSON object."""
    _, message, outbound, source, destination, client, server, service, sent, got, took, *_ = entry
    rest = "".join([f',"{key}":{_quoted(value)}' for key, value in _rest(entry).items()])
    return (
        f'{{"level":"{entry.level}","time":"{stamp}","scope":"{SCOPE}","message":"{message}",'
        f'"src.addr":"{host_port(*source)}",{_json_end("src", NO_SERVICE, client)}'
        f'"dst.addr":"{host_port(*destination)}",{_json_end("dst", service, server)}'
        f'"direction":"{"outbound" if outbound else "inbound"}","bytes_sent":{sent},'
        f'"bytes_recv":{got},"duration":"{took // 1_000_000}ms"{rest}}}\n'
    )


def _end(prefix: str, service: ServiceName, names: Names) -> dict[str, Json]:
    found: dict[str, Json] = {}
    if service.hostname:
        found[f"{prefix}.service"] = service.hostname
    if workload := names.pod or names.canonical:
        found[f"{prefix}.workload"] = workload
    if names.namespace:
        found[f"{prefix}.namespace"] = names.namespace
    if names.cluster:
        found[f"{prefix}.cluster"] = names.cluster
    return found


@lru_cache(KEPT)
def _text_end(prefix: str, service: ServiceName, names: Names) -> str:
    found = _end(prefix, service, names).items()
    return "".join([f"{key}={_quoted(value)} " for key, value in found])


@lru_cache(KEPT)
def _json_end(prefix: str, service: ServiceName, names: Names) -> str:
    found = _end(prefix, service, names).items()
    return "".join([f'"{key}":{_quoted(value)},' for key, value in found])


def _rest(entry: Entry) -> dict[str, Json]:
    """What only some lines have."""
    found: dict[str, Json] = {}
    if entry.error:
        found["error"] = entry.error
    if entry.protocol != "tcp":
        found["protocol"] = entry.protocol
    if entry.retransmits:
        found["retransmissions"] = entry.retransmits
    if entry.lost:
        found["packet_loss"] = entry.lost
    if entry.srtt:
        found["srtt"] = f"{entry.srtt}us"
    if entry.min_rtt:
        found["min_rtt"] = f"{entry.min_rtt}us"
    return found
