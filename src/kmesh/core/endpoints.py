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
from kmesh.core.quick import NEW
from kmesh.core.rank import rank
from kmesh.core.roster import Asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kmesh.core.model import Port, Profile, Service, Workload
    from kmesh.core.roster import Chosen
    from kmesh.core.store import Frontend, Store

    Select = Callable[[Asked], Chosen | None]

SLOT_TAIL = Struct("<IHH")
HEALTHY = int(Trait.HEALTHY)
EXACT = 128
RANKED = (Mode.STRICT, Mode.FAILOVER)
# A member of an enumeration is looked up by a function of its own: ten times a name's time.
BALANCED = Reason.BALANCED
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
            return by_number(membership.ports).get(port.service, port.target)
    return port.target


def by_number(ports: tuple[Port, ...]) -> dict[int, int]:
    """Target ports by service port; of equal ones the first."""
    return dict(reversed(ports))


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

    __slots__ = (
        "_chosen", "_found", "_frontend", "_id_of", "_own", "_service", "_source", "_store",
        "_whole", "_wrong_family",
    )  # fmt: skip

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
        self._own: dict[int, dict[int, int]] = {}
        self._chosen = alike(service, frontend, source, select) if select is not None else None

    def targets(self) -> Iterator[tuple[int, Selection]]:
        """The service's ports by number, with the slots of each."""
        chosen = self._chosen
        if chosen is None:
            for port in self._service.ports:
                yield port.service, self._one_by_one(port)
        elif not chosen.slots:
            reason = Reason.FAMILY if chosen.wrong_family else Reason.NO_ENDPOINT
            for port in self._service.ports:
                yield port.service, Selection(b"", 0, reason)
        else:
            slots = chosen.slots
            first, *others = [by_number(own) for own, _ in chosen.kinds]
            for port in self._service.ports:
                number, target = port
                target = first.get(number, target)
                if target and all(own.get(number, port.target) == target for own in others):
                    yield number, NEW(Selection, (slots, target, BALANCED))
                else:
                    yield number, self._one_by_one(port)

    def _target(self, port: Port, workload: Workload) -> int:
        """As ``target_port``; the maps of ports are made once for each kind of workload."""
        # Interned parts are compared by identity: hashing a tuple of tuples costs more than the
        # whole look-up.
        own = self._own.get(id(workload.memberships))
        if own is None:
            key = self._service.key
            mine = next((each for each in workload.memberships if each.service == key), None)
            own = self._own[id(workload.memberships)] = by_number(mine.ports) if mine else {}
        return own.get(port.service, port.target)

    def _one_by_one(self, port: Port) -> Selection:
        if self._found is None:
            self._found = list(self._reachable(self._store, self._frontend))
        found = [(w, addr, self._target(port, w)) for w, addr in self._found]
        ports = {candidate[2] for candidate in found}
        if len(ports) == 1 and 0 not in ports:
            if self._whole is None:
                self._whole = self._slots([(w, addr, 0) for w, addr in self._found])
            return selection(self._whole, ports.pop())
        found = [candidate for candidate in found if candidate[2]]
        ports.discard(0)
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
        if self._service.mode in RANKED:
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


def alike(service: Service, frontend: Frontend, source: Profile, select: Select) -> Chosen | None:
    """The endpoints when neither rank nor weight tells them apart."""
    if service.mode in RANKED:
        return None
    network, unhealthy = source.network, service.allow_unhealthy
    exact = frontend[1] == EXACT
    asked = (service.key, network, frontend[0], exact, unhealthy, service.families)
    chosen = select(NEW(Asked, asked))
    if chosen is None or not chosen.kinds:
        return chosen
    first = chosen.kinds[0][1]
    for _, weight in chosen.kinds:
        if weight != first:
            return None
    return chosen if first else None


def selection(slots: list[bytes] | Reason, port: int) -> Selection:
    """The answer for one port, from its slots or the reason why there are none."""
    if isinstance(slots, Reason):
        return Selection(b"", 0, slots)
    return Selection(b"".join(slots), port, BALANCED)


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
