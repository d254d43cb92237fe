"""Which endpoints a client gets for one port of a service (ambient contract, endpoint selection).

The stages in order: port, health, reachability, ownership, rank, weight.
"""

from __future__ import annotations

from math import gcd
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Reason
from kmesh.core.addr import MAPPED, is_ipv4
from kmesh.core.model import Families, Mode, Trait
from kmesh.core.rank import rank
from kmesh.core.roster import Asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kmesh.core.model import Port, Profile, Service, Workload
    from kmesh.core.roster import Chosen
    from kmesh.core.store import Frontend, Store

    Select = Callable[[Asked], Chosen | None]

SLOT_TAIL = Struct("<IHH")
HEALTHY = int(Trait.HEALTHY)
EXACT = 128
MOST_SLOTS = 4096
"""Slots spent on one port for the sake of exact weights, unless there are more endpoints."""


class Selection(NamedTuple):
    """Endpoints as slots of 24 bytes with gen 0, sorted; ``port`` is 0 when each slot has its
    own. Without slots, ``reason`` says why."""

    slots: bytes
    port: int
    reason: Reason


def target_port(service: Service, port: Port, workload: Workload) -> int:
    """The endpoint's port for a service port; 0 when it has none.

    The endpoint's own mapping, else the service's target. An application tunnel makes up for a
    missing port only on the way from a waypoint, which this is not.
    """
    for membership in workload.memberships:
        if membership.service == service.key:
            return target_of(port, membership.ports)
    return port.target


def target_of(port: Port, own: tuple[Port, ...]) -> int:
    """As ``target_port``, for endpoints with these ports of their own."""
    for each in own:
        if each.service == port.service:
            return each.target
    return port.target


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


class Endpoints:
    """The endpoints of a service for clients at ``source`` that dialled one of its VIPs.

    Everything that does not depend on the port is worked out once. Where endpoints differ in
    nothing but their address, ``select`` finds them all at once; else they are looked at one by
    one.
    """

    def __init__(
        self,
        store: Store,
        service: Service,
        frontend: Frontend,
        source: Profile,
        id_of: Callable[[str], int],
        select: Select | None = None,
    ) -> None:
        self._store, self._service, self._frontend = store, service, frontend
        self._source, self._id_of = source, id_of
        self._wrong_family = False
        self._found: list[tuple[Workload, bytes]] | None = None
        self._whole: list[bytes] | Reason | None = None
        self._chosen = self._alike(select) if select is not None else None

    def select(self, port: Port) -> Selection:
        """The slots of one service port."""
        chosen = self._chosen
        if chosen is not None:
            if not chosen.slots:
                reason = Reason.FAMILY if chosen.wrong_family else Reason.NO_ENDPOINT
                return Selection(b"", 0, reason)
            target = target_of(port, chosen.kinds[0][0])
            if target and all(target_of(port, own) == target for own, _ in chosen.kinds[1:]):
                return Selection(chosen.slots, target, Reason.BALANCED)
        return self._one_by_one(port)

    def _alike(self, select: Select) -> Chosen | None:
        """The endpoints when neither rank nor weight tells them apart."""
        service, (vip, plen) = self._service, self._frontend
        if service.mode in (Mode.STRICT, Mode.FAILOVER):
            return None
        network, unhealthy = self._source.network, service.allow_unhealthy
        asked = Asked(service.key, network, vip, plen == EXACT, unhealthy, service.families)
        chosen = select(asked)
        if chosen is None:
            return None
        if not chosen.kinds:
            return chosen
        first = chosen.kinds[0][1]
        alike = first and all(weight == first for _, weight in chosen.kinds[1:])
        return chosen if alike else None

    def _one_by_one(self, port: Port) -> Selection:
        if self._found is None:
            self._found = list(self._reachable(self._store, self._frontend))
        # Interned parts are compared by identity: hashing a tuple of tuples costs more than the
        # whole look-up.
        targets: dict[int, int] = {}
        for workload, _ in self._found:
            key = id(workload.memberships)
            if key not in targets:
                targets[key] = target_port(self._service, port, workload)
        ports = set(targets.values())
        if len(ports) == 1 and 0 not in ports:
            if self._whole is None:
                self._whole = self._slots([(w, addr, 0) for w, addr in self._found])
            return selection(self._whole, ports.pop())
        found = [(w, addr, target_port(self._service, port, w)) for w, addr in self._found]
        found = [candidate for candidate in found if candidate[2]]
        ports = {candidate[2] for candidate in found}
        if len(ports) == 1:
            found = [(w, addr, 0) for w, addr, _ in found]
        return selection(self._slots(found), ports.pop() if len(ports) == 1 else 0)

    def _reachable(self, store: Store, frontend: Frontend) -> Iterable[tuple[Workload, bytes]]:
        vip, exact, ipv4 = frontend[0], frontend[1] == EXACT, is_ipv4(frontend[0])
        service, network = self._service, self._source.network
        unhealthy, families = service.allow_unhealthy, service.families
        contested = store.claims.conflicts
        plain = families is Families.AUTOMATIC and not contested
        for workload in store.members.get(service.key, {}).values():
            addresses = workload.addresses
            # Another network's addresses may mean other machines here.
            if workload.profile.network != network or not addresses:
                continue
            if not (unhealthy or workload.traits & HEALTHY):
                continue
            first = addresses[0]
            if plain and len(addresses) == 1 and (not ipv4 or first[:12] == MAPPED):
                yield workload, first
                continue
            # Of a CIDR the dialled address is not known.
            dialled = exact and vip in addresses
            addr = vip if dialled else endpoint_address(addresses, ipv4, families)
            if addr is None:
                self._wrong_family = True
            elif not contested or store.usable_address(workload, addr):
                yield workload, addr

    def _slots(self, found: list[tuple[Workload, bytes, int]]) -> list[bytes] | Reason:
        if not found:
            return Reason.FAMILY if self._wrong_family else Reason.NO_ENDPOINT
        if self._service.mode in (Mode.STRICT, Mode.FAILOVER):
            found = self._nearest(found)
            if not found:
                return Reason.STRICT_NO_LOCAL
        weights = [workload.capacity for workload, _, _ in found]
        if not any(weights):
            return Reason.NO_ENDPOINT
        pack, id_of = SLOT_TAIL.pack, self._id_of
        slots = [addr + pack(id_of(workload.uid), port, 0) for workload, addr, port in found]
        if weights.count(weights[0]) != len(weights):
            counts = apportion(weights)
            slots = [slot for slot, count in zip(slots, counts, strict=True) for _ in range(count)]
        slots.sort()
        return slots

    def _nearest(
        self, found: list[tuple[Workload, bytes, int]]
    ) -> list[tuple[Workload, bytes, int]]:
        ranks: dict[int, tuple[int, bool]] = {}
        for workload, _, _ in found:
            place = workload.profile
            if id(place) not in ranks:
                ranks[id(place)] = rank(self._service.preference, self._source, place)
        if self._service.mode is Mode.STRICT:
            found = [each for each in found if ranks[id(each[0].profile)][1]]
        best = max((ranks[id(each[0].profile)][0] for each in found), default=0)
        return [each for each in found if ranks[id(each[0].profile)][0] == best]


def selection(slots: list[bytes] | Reason, port: int) -> Selection:
    """The answer for one port, from its slots or the reason why there are none."""
    if isinstance(slots, Reason):
        return Selection(b"", 0, slots)
    return Selection(b"".join(slots), port, Reason.BALANCED)


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
    # What was raised to one slot has more than its share already.
    whole = (i for i, weight in enumerate(weights) if weight * most >= total)
    rest = sorted(whole, key=lambda i: -(weights[i] * most % total))
    for i in rest[: max(0, most - sum(counts))]:
        counts[i] += 1
    return counts
