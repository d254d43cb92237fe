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
    from collections.abc import Callable

    from kmesh.core.plan import Realised

Shape = dict[str, Any]


class Record(NamedTuple):
    """One record of km_vip, read with its slots."""

    key: VipKey
    action: str
    reason: str
    service: str
    target_port: int
    slots: tuple[Slot, ...]
    gen: int


class Namer(NamedTuple):
    """Names of ids; each gives the number as text for one that has none."""

    service: Callable[[int], str]
    workload: Callable[[int], str]


def record(key: bytes, value: bytes, slots: bytes | memoryview, names: Namer) -> Record:
    """A row of km_vip; ``slots`` is the whole of km_slot."""
    target, segment = decode(key, value, slots)
    content = target.slots
    return Record(
        VipKey.unpack(key), target.action.name.lower(), target.reason.name.lower(),
        names.service(target.service) if target.service else "", target.port,
        tuple(
            Slot.unpack(content[at : at + SLOT_SIZE]) for at in range(0, len(content), SLOT_SIZE)
        ),
        segment.gen if segment else 0,
    )  # fmt: skip


def missing(key: bytes, planned: Realised, names: Namer) -> Shape:
    """A record that the planner wrote and the kernel has not."""
    target = planned.target
    found = Record(
        VipKey.unpack(key), target.action.name.lower(), target.reason.name.lower(),
        names.service(target.service) if target.service else "", target.port, (), 0,
    )  # fmt: skip
    return {**frontend(found), "differs": Kind.MISSING}


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


def service(found: Record) -> Shape:
    """A port of a service with its endpoints."""
    return {
        "endpointCount": str(len({(slot.addr, slot.port) for slot in found.slots})),
        "lbPolicy": found.action if found.action != VipAction.BALANCE.name.lower() else "BALANCE",
        "servicePort": str(found.key.port),
        "targetPort": str(found.target_port),
        "waypointAddr": "",
        "waypointPort": 0,
        "service": found.service,
        "address": text(found.key.addr),
        "view": found.key.view,
    }


def endpoints(found: Record, names: Namer) -> list[Shape]:
    """The endpoints of a record, each once with the number of its slots: its weight."""
    weights: dict[tuple[int, bytes, int], int] = {}
    for slot in found.slots:
        place = (slot.workload, slot.addr, slot.port)
        weights[place] = weights.get(place, 0) + 1
    return [
        {
            "backendUid": names.workload(workload), "service": found.service,
            "address": text(address), "port": port, "slots": count,
        }
        for (workload, address, port), count in weights.items()
    ]  # fmt: skip


def backend(workload: str, address: bytes, services: list[str]) -> Shape:
    """A workload that is an endpoint of services."""
    return {
        "ip": text(address), "serviceCount": len(services), "services": services,
        "waypointAddr": "", "waypointPort": 0, "uid": workload,
    }  # fmt: skip
