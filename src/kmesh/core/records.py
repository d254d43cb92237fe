"""Records of the kernel's ring, with names instead of ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import EVENT_SIZE, Direction, Event, EventKind, Reason
from kmesh.core.addr import host_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.core.steer import Steering

PROTOCOLS = {6: "tcp", 17: "udp"}


class Denial(NamedTuple):
    """A connection that was refused, or would be if what is in dry run were enforced.

    ``time`` is nanoseconds of the kernel's monotonic clock; ``suppressed`` is how many more there
    were of this pair and policy since its last record. Names are empty when they are not known.
    """

    time: int
    source: str
    source_workload: str
    destination: str
    destination_workload: str
    protocol: str
    policy: str
    reason: str
    dry_run: bool
    suppressed: int


class Connection(NamedTuple):
    """A step in the life of a TCP connection of a pod on this node, or an attempt that failed; also
    a datagram that was refused where it was sent.

    Times are nanoseconds of the kernel's monotonic clock, addresses 16 bytes; ids are this node's
    (0: none); bytes are the application's since the connection began. ``error`` is the errno by
    which it ended, 0 when both ends closed it; ``vip`` is zeros when no VIP was dialled.
    ``reason`` says why the mesh refused it before it began, empty when it did not: then the local
    address is not known, and the remote one is what was dialled.
    """

    kind: EventKind
    outbound: bool
    protocol: str
    error: int
    socket: int
    workload: int
    service: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    vip: bytes
    vip_port: int
    start: int
    time: int
    sent: int
    received: int
    rtt_us: int
    min_rtt_us: int
    retransmits: int
    lost: int
    reason: str = ""


Record = Denial | Connection


def events(raw: bytes) -> Iterator[Event]:
    """The records in a buffer of whole ones."""
    for at in range(0, len(raw), EVENT_SIZE):
        yield Event.unpack(raw[at : at + EVENT_SIZE])


def record(event: Event, steering: Steering) -> Record:
    """What one record of the ring tells."""
    if event.kind in (EventKind.DENIED, EventKind.DRY_RUN):
        return denial(event, steering)
    return Connection(
        EventKind(event.kind), event.direction == Direction.OUTBOUND,
        PROTOCOLS.get(event.protocol, str(event.protocol)), event.error, event.socket,
        event.workload, event.service, event.local, event.local_port, event.remote,
        event.remote_port, event.vip, event.vip_port, event.start, event.time, event.sent,
        event.received, event.rtt_us, event.min_rtt_us, event.retransmits, event.lost,
        Reason(event.reason).name.lower() if event.reason else "",
    )  # fmt: skip


def denial(event: Event, steering: Steering) -> Denial:
    """A record with its names, as they are known now."""
    network = steering.store.home.network
    source = steering.store.claims.owner(network, event.remote) or ""
    pods = steering.pods.wanted.values()
    mine = (uid for uid in pods if steering.workload_ids.get(uid) == event.workload)
    policy = steering.guards.names.name(event.policy) if event.policy else ""
    protocol = PROTOCOLS.get(event.protocol, str(event.protocol))
    return Denial(
        event.time, host_port(event.remote, event.remote_port), source,
        host_port(event.local, event.local_port), next(mine, ""),
        protocol, policy, Reason(event.reason).name.lower(),
        event.kind == EventKind.DRY_RUN, event.suppressed,
    )  # fmt: skip
