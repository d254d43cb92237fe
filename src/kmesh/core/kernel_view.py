"""What lies in the kernel's tables, with names for ids: upstream's dump of its BPF maps.

The shape is kmesh-contract 7.2. This build's tables are others: a record is one address and port
of a service with its segment of slots. Where upstream's keys have no counterpart, more keys tell
(``address``, ``port``, ``view``, ``action``, ``reason``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh.abi.layout import SLOT_SIZE, Slot, VipAction, VipKey
from kmesh.core.addr import text
from kmesh.core.adopt import decode
from kmesh.core.audit import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmesh.core.mirror import Realised

Shape = dict[str, Any]
Weights = dict[bytes, int]
AT_ONCE = 512  # slots that are counted in one piece
BALANCE = VipAction.BALANCE.name.lower()


class Record(NamedTuple):
    """One record of km_vip, read with its slots, which are packed without their gen."""

    key: VipKey
    action: str
    reason: str
    service: str
    target_port: int
    slots: bytes
    gen: int


class Namer(NamedTuple):
    """Names of ids; each gives the number as text for one that has none."""

    service: Callable[[int], str]
    workload: Callable[[int], str]


def record(key: bytes, value: bytes, slots: bytes | memoryview, names: Namer) -> Record:
    """A row of km_vip; ``slots`` is the whole of km_slot."""
    target, segment = decode(key, value, slots)
    return Record(
        VipKey.unpack(key), target.action.name.lower(), target.reason.name.lower(),
        names.service(target.service) if target.service else "", target.port, target.slots,
        segment.gen if segment else 0,
    )  # fmt: skip


def missing(key: bytes, planned: Realised, names: Namer) -> Shape:
    """A record that the planner wrote and the kernel has not."""
    target = planned.target
    found = Record(
        VipKey.unpack(key), target.action.name.lower(), target.reason.name.lower(),
        names.service(target.service) if target.service else "", target.port, b"", 0,
    )  # fmt: skip
    return {**frontend(found), "differs": str(Kind.MISSING)}


def frontend(found: Record) -> Shape:
    """An address that leads somewhere."""
    return {
        "upstreamId": found.service,
        "address": text(found.key.addr),
        "port": found.key.port,
        "view": found.key.view,
        "action": found.action,
        "reason": found.reason,
    }


def weigh(found: Record) -> Iterator[Weights | None]:
    """The endpoints of a record, each once with the number of its slots: None for each piece of
    the counting, then the weights."""
    weights: Weights = {}
    for start in range(0, len(found.slots), AT_ONCE * SLOT_SIZE):
        some = found.slots[start : start + AT_ONCE * SLOT_SIZE]
        for at in range(0, len(some), SLOT_SIZE):
            slot = some[at : at + SLOT_SIZE]
            weights[slot] = weights.get(slot, 0) + 1
        yield None
    yield weights


def service(found: Record, weights: Weights) -> Shape:
    """A port of a service with its endpoints."""
    return {
        "endpointCount": str(len(weights)),
        "lbPolicy": found.action if found.action != BALANCE else "BALANCE",
        "servicePort": str(found.key.port),
        "targetPort": str(found.target_port),
        "waypointAddr": "",
        "waypointPort": 0,
        "service": found.service,
        "address": text(found.key.addr),
        "view": found.key.view,
    }


def endpoint(found: Record, slot: Slot, count: int, names: Namer) -> Shape:
    """One endpoint of a record with the number of its slots: its weight."""
    return {
        "backendUid": names.workload(slot.workload), "service": found.service,
        "address": text(slot.addr), "port": slot.port or found.target_port or found.key.port,
        "slots": count,
    }  # fmt: skip


def backend(workload: str, address: bytes, services: list[str]) -> Shape:
    """A workload that is an endpoint of services."""
    return {
        "ip": text(address), "serviceCount": len(services), "services": services,
        "waypointAddr": "", "waypointPort": 0, "uid": workload,
    }  # fmt: skip
