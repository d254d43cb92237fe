"""Lines of the access log: keys and order of ztunnel, as text or as JSON.

What ztunnel does not have (protocol when it is not TCP, retransmissions, loss, round trip times)
comes after its keys. ``*.identity`` and ``dst.hbone_addr`` are left out as ztunnel does without
mutual TLS.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.addr import host, host_port
from kmesh.core.labels import NO_SERVICE, NOBODY, Names, ServiceName

if TYPE_CHECKING:
    from kmesh.core.events import Json

SCOPE = "access"
_quoted = json.JSONEncoder(ensure_ascii=False).encode
COMPLETE, OPENED, OPEN = "connection complete", "connection opened", "connection open"
SLOW = "connection was slow to open"
Texts = tuple[str, ...]


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

    @property
    def namespace(self) -> str:
        """Of the pod that reports it."""
        return (self.client if self.outbound else self.server).namespace


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
        **_cause(entry),
        **_quality(entry),
    }


class Form:
    """How lines are written: texts with the numbers of a connection in between, so that those who
    write a hundred thousand a second make each text once. A line is, in this order:

    | text | number after it |
    | --- | --- |
    | ``outcome[0]`` | time, RFC 3339 in UTC with microseconds |
    | ``outcome[1]``, ``ends[0]`` | the source's port |
    | ``ends[1]`` | the destination's port |
    | ``ends[2]`` | bytes sent |
    | ``numbers[0]`` | bytes received |
    | ``numbers[1]`` | milliseconds |
    | ``numbers[2]``, ``outcome[2]`` | |
    | ``numbers[3]``, ``numbers[4]`` | retransmissions and lost segments, each unless 0 |
    | ``numbers[5]``, ``numbers[6]`` | round trip times, each unless 0, and then ``numbers[7]`` |
    | ``numbers[8]`` | |

    In text addresses and numbers are bare, everything else is in quotes, as ztunnel writes them.
    """

    def __init__(self, json: bool) -> None:
        self._json = json
        quality = ("retransmissions", "packet_loss", "srtt", "min_rtt")
        received, duration, *names = map(self._key, ("bytes_recv", "duration", *quality))
        times = (f'{name}"' for name in names[2:])
        self.numbers: Texts = (
            received, f'{duration}"', 'ms"', *names[:2], *times, 'us"', "}\n" if json else "\n",
        )  # fmt: skip

    def outcome(self, entry: Entry) -> Texts:
        """What a line says of how its connection went."""
        rest = self._pairs(_cause(entry))
        message, level = entry.message, entry.level
        if not self._json:
            return "", f"\t{level}\t{SCOPE}\t{message}\tsrc.addr=", rest
        after = f'","scope":"{SCOPE}","message":"{message}","src.addr":"'
        return f'{{"level":"{level}","time":"', after, rest

    def ends(self, entry: Entry) -> Texts:
        """What a line says of both ends but their ports."""
        quote = '"' if self._json else ""
        client = self._pairs(_end("src", NO_SERVICE, entry.client))
        server = _end("dst", entry.service, entry.server)
        server |= {"direction": "outbound" if entry.outbound else "inbound"}
        return (
            f"{host(entry.source[0])}:",
            f"{quote}{client}{self._key('dst.addr')}{quote}{host(entry.destination[0])}:",
            f"{quote}{self._pairs(server)}{self._key('bytes_sent')}",
        )

    def line(self, entry: Entry, stamp: str) -> str:
        """A whole line; ``stamp`` is the time as text."""
        outcome, ends, numbers = self.outcome(entry), self.ends(entry), self.numbers
        return (
            f"{outcome[0]}{stamp}{outcome[1]}{ends[0]}{entry.source[1]}{ends[1]}"
            f"{entry.destination[1]}{ends[2]}{entry.sent}{numbers[0]}{entry.received}{numbers[1]}"
            f"{entry.duration // 1_000_000}{numbers[2]}{outcome[2]}{self._pairs(_quality(entry))}"
            f"{numbers[8]}"
        )

    def _key(self, name: str) -> str:
        return f',"{name}":' if self._json else f" {name}="

    def _pairs(self, found: dict[str, Json]) -> str:
        return "".join([f"{self._key(key)}{_quoted(value)}" for key, value in found.items()])


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


def _cause(entry: Entry) -> dict[str, Json]:
    """What only lines of some outcomes have."""
    found: dict[str, Json] = {}
    if entry.error:
        found["error"] = entry.error
    if entry.protocol != "tcp":
        found["protocol"] = entry.protocol
    return found


def _quality(entry: Entry) -> dict[str, Json]:
    """What only lines of some connections have."""
    found: dict[str, Json] = {}
    if entry.retransmits:
        found["retransmissions"] = entry.retransmits
    if entry.lost:
        found["packet_loss"] = entry.lost
    if entry.srtt:
        found["srtt"] = f"{entry.srtt}us"
    if entry.min_rtt:
        found["min_rtt"] = f"{entry.min_rtt}us"
    return found
