"""Records of the kernel's ring, with names instead of ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Direction, Event, EventKind, Reason
from kmesh.core.addr import host_port

if TYPE_CHECKING:
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


class Connection(Event):
    """A step in the life of a TCP connection of a pod on this node, or an attempt that failed; also
    a datagram that was refused where it was sent.

    Times are nanoseconds of the kernel's monotonic clock, addresses 16 bytes; ids are this node's
    (0: none); bytes are the application's since the connection began. ``error`` is the errno by
    which it ended, 0 when both ends closed it; ``vip`` is zeros when no VIP was dialled.
    """

    __slots__ = ()

    @property
    def outbound(self) -> bool:
        """Whether this is the end that dialled."""
        return self.direction == Direction.OUTBOUND

    @property
    def protocol_name(self) -> str:
        """``tcp``, ``udp``, or a number."""
        return protocol_name(self.protocol)

    @property
    def refusal(self) -> str:
        """Why the mesh refused it before it began, empty when it did not: then the local address is
        not known, and the remote one is what was dialled."""
        return Reason(self.reason).name.lower() if self.reason else ""


Record = Denial | Connection


def records(raw: bytes, steering: Steering) -> list[Record]:
    """What a buffer of whole records tells, in the kernel's order."""
    return [
        one if one.kind > EventKind.DRY_RUN else denial(one, steering)
        for one in Connection.unpack_many(raw)
    ]


def denial(event: Event, steering: Steering) -> Denial:
    """A record with its names, as they are known now."""
    network = steering.store.home.network
    source = steering.store.claims.owner(network, event.remote) or ""
    pods = steering.pods.wanted.values()
    mine = (uid for uid in pods if steering.workload_ids.get(uid) == event.workload)
    policy = steering.guards.names.name(event.policy) if event.policy else ""
    return Denial(
        event.time, host_port(event.remote, event.remote_port), source,
        host_port(event.local, event.local_port), next(mine, ""),
        protocol_name(event.protocol), policy, Reason(event.reason).name.lower(),
        event.kind == EventKind.DRY_RUN, event.suppressed,
    )  # fmt: skip


def protocol_name(number: int) -> str:
    """As records and logs call it."""
    return PROTOCOLS.get(number, str(number))
