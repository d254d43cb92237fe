"""Which endpoints a client gets for one port of a service (ambient contract, endpoint selection).

The stages in order: port, health, reachability, ownership, rank, weight.
"""

from __future__ import annotations

from math import gcd
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Reason
from kmesh.core.addr import is_ipv4
from kmesh.core.model import Families, Mode, Trait
from kmesh.core.rank import rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kmesh.core.model import Membership, Port, Profile, Service, Workload
    from kmesh.core.store import Store

SLOT_TAIL = Struct("<IHH")
HEALTHY = int(Trait.HEALTHY)
MOST_SLOTS = 4096
"""Slots spent on one port for the sake of exact weights, unless there are more endpoints."""


class Selection(NamedTuple):
    """Endpoints as slots of 24 bytes with gen 0, sorted; ``port`` is 0 when each slot has its
    own. Without slots, ``reason`` says why."""

    slots: bytes
    port: int
    reason: Reason


class Candidate(NamedTuple):
    """An endpoint that may be chosen."""

    workload: Workload
    addr: bytes
    port: int


def target_port(service: Service, port: Port, workload: Workload) -> int:
    """The endpoint's port for a service port; 0 when it has none.

    The endpoint's own mapping, else the service's target, else the service port when an
    application tunnel takes it.
    """
    for membership in workload.memberships:
        if membership.service == service.key:
            for own in membership.ports:
                if own.service == port.service:
                    return own.target
    if port.target:
        return port.target
    return port.service if workload.tunnel_port else 0


def endpoint_address(addresses: tuple[bytes, ...], ipv4: bool, families: Families) -> bytes | None:
    """The endpoint's address for a client that dialled an IPv4 (or IPv6) VIP.

    The first of the VIP's family, else the first; an IPv4 socket cannot use an IPv6 one.
    """
    if families is Families.IPV4_ONLY:
        addresses = tuple(addr for addr in addresses if is_ipv4(addr))
    elif families is Families.IPV6_ONLY:
        addresses = tuple(addr for addr in addresses if not is_ipv4(addr))
    for addr in addresses:
        if is_ipv4(addr) == ipv4:
            return addr
    return addresses[0] if addresses and not ipv4 else None


def select(
    store: Store,
    service: Service,
    port: Port,
    ipv4: bool,
    source: Profile,
    id_of: Callable[[str], int],
) -> Selection:
    """Endpoints of one service port for clients at ``source`` that dialled a VIP of a family."""
    found = list(_usable(store, service, port, source))
    if not found:
        return Selection(b"", 0, Reason.NO_ENDPOINT)
    reachable, wrong_family = [], False
    for workload, target in found:
        addr = endpoint_address(workload.addresses, ipv4, service.families)
        if addr is None:
            wrong_family = True
        elif store.usable_address(workload, addr):
            reachable.append(Candidate(workload, addr, target))
    if not reachable:
        return Selection(b"", 0, Reason.FAMILY if wrong_family else Reason.NO_ENDPOINT)
    nearest = _nearest(service, reachable, source)
    if not nearest:
        return Selection(b"", 0, Reason.STRICT_NO_LOCAL)
    return _pack(nearest, id_of)


def _usable(
    store: Store, service: Service, port: Port, source: Profile
) -> Iterable[tuple[Workload, int]]:
    targets: dict[tuple[tuple[Membership, ...], int], int] = {}
    for workload in store.members.get(service.key, {}).values():
        if not (service.allow_unhealthy or workload.traits & HEALTHY):
            continue
        # Another network's addresses may mean other machines here.
        if workload.profile.network != source.network or not workload.addresses:
            continue
        key = (workload.memberships, workload.tunnel_port)
        target = targets.get(key)
        if target is None:
            target = targets[key] = target_port(service, port, workload)
        if target:
            yield workload, target


def _nearest(service: Service, found: list[Candidate], source: Profile) -> list[Candidate]:
    if service.mode not in (Mode.STRICT, Mode.FAILOVER):
        return found
    ranks: dict[Profile, tuple[int, bool]] = {}
    for candidate in found:
        place = candidate.workload.profile
        if place not in ranks:
            ranks[place] = rank(service.preference, source, place)
    if service.mode is Mode.STRICT:
        found = [c for c in found if ranks[c.workload.profile][1]]
    best = max((ranks[c.workload.profile][0] for c in found), default=0)
    return [c for c in found if ranks[c.workload.profile][0] == best]


def _pack(found: list[Candidate], id_of: Callable[[str], int]) -> Selection:
    weights = [candidate.workload.capacity for candidate in found]
    if not any(weights):
        return Selection(b"", 0, Reason.NO_ENDPOINT)
    port = found[0].port
    shared = all(candidate.port == port for candidate in found)
    pack = SLOT_TAIL.pack
    slots = [c.addr + pack(id_of(c.workload.uid), 0 if shared else c.port, 0) for c in found]
    if any(weight != weights[0] for weight in weights):
        counts = apportion(weights)
        slots = [slot for slot, count in zip(slots, counts, strict=True) for _ in range(count)]
    slots.sort()
    return Selection(b"".join(slots), port if shared else 0, Reason.BALANCED)


def apportion(weights: list[int]) -> list[int]:
    """Slots per endpoint in proportion to its weight; 0 stays 0, a positive weight gets one.

    Exact while the reduced weights add up to ``MOST_SLOTS`` at most, or to 4 for each endpoint;
    beyond that by largest remainder, which is wrong by less than one slot for each.
    """
    divisor = gcd(*weights)
    weights = [weight // divisor for weight in weights]
    total, most = sum(weights), max(MOST_SLOTS, 4 * len(weights))
    if total <= most:
        return weights
    counts = [max(1, weight * most // total) if weight else 0 for weight in weights]
    rest = sorted(range(len(weights)), key=lambda i: -(weights[i] * most % total))
    for i in rest[: max(0, most - sum(counts))]:
        counts[i] += bool(weights[i])
    return counts
