"""Records of the kernel's ring, with names instead of ids."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import EVENT_SIZE, Direction, Event, EventKind, Reason
from kmesh.core.addr import host_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmesh.core.steer import Steering

PROTOCOLS = {6: "tcp", 17: "udp"}
KIND = 132  # where a record has its kind


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


class Batch:
    """Whole records in the kernel's order, ``raw`` one after the other; ``denials`` are those among
    them that tell of policies, by their number. What nobody asks for is not taken apart."""

    def __init__(self, raw: bytes, denials: Mapping[int, Denial]) -> None:
        self.raw, self.denials = raw, denials

    def __len__(self) -> int:
        return len(self.raw) // EVENT_SIZE

    def one(self, number: int) -> bytes:
        """The bytes of a record."""
        return self.raw[number * EVENT_SIZE : (number + 1) * EVENT_SIZE]

    def record(self, number: int) -> Record:
        """A record by its number."""
        return self.denials.get(number) or Connection.unpack(self.one(number))

    @cached_property
    def records(self) -> list[Record]:
        """All of them."""
        found: list[Record] = list(Connection.unpack_many(self.raw))
        for number, one in self.denials.items():
            found[number] = one
        return found


def batch(raw: bytes, steering: Steering) -> Batch:
    """What was read at once, denials with their names."""
    kinds = raw[KIND::EVENT_SIZE]
    if not kinds or min(kinds) > EventKind.DRY_RUN:
        return Batch(raw, {})
    found = Event.unpack_many(raw)
    told = ((number, each) for number, each in enumerate(found) if each.kind <= EventKind.DRY_RUN)
    return Batch(raw, {number: denial(each, steering) for number, each in told})


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
