"""Why each endpoint of a service is chosen or not, in the order of core/endpoints.py's stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.addr import is_ipv4
from kmesh.core.endpoints import EXACT, HEALTHY, endpoint_address, target_port
from kmesh.core.model import Mode
from kmesh.core.rank import rank

if TYPE_CHECKING:
    from kmesh.core.model import Port, Profile, Service, Workload
    from kmesh.core.store import Frontend, Store

CHOSEN = "chosen"


class Candidate(NamedTuple):
    """An endpoint of a service. ``why`` is CHOSEN or what keeps it out; ``rank`` counts the scopes
    that match (see core/rank.py), None where the service does not rank; ``addr`` is empty and
    ``port`` 0 when it did not get so far."""

    uid: str
    node: str
    addr: bytes
    port: int
    why: str
    rank: int | None = None
    weight: int = 1

    @property
    def chosen(self) -> bool:
        """Whether clients are sent there."""
        return self.why == CHOSEN


def candidates(
    store: Store, service: Service, frontend: Frontend, source: Profile, port: Port
) -> list[Candidate]:
    """Every endpoint of a service for a client at ``source`` that dialled one of its VIPs."""
    members = store.members.get(service.key, {}).values()
    found = [_reach(store, service, frontend, source, port, member) for member in members]
    if service.mode in (Mode.STRICT, Mode.FAILOVER):
        found = _nearest(store, service, source, found)
    return [
        each._replace(why="its weight is 0") if each.chosen and not each.weight else each
        for each in found
    ]


def _reach(
    store: Store, service: Service, frontend: Frontend, source: Profile, port: Port, one: Workload
) -> Candidate:
    vip, ipv4 = frontend[0], is_ipv4(frontend[0])
    out = Candidate(one.uid, one.profile.node, b"", 0, CHOSEN, None, one.capacity)
    if one.profile.network != source.network:
        return out._replace(why=f"on another network: {one.profile.network or 'the empty one'}")
    if not one.addresses:
        return out._replace(why="has no address")
    if not (service.allow_unhealthy or one.traits & HEALTHY):
        return out._replace(addr=one.addresses[0], why="unhealthy")
    dialled = frontend[1] == EXACT and vip in one.addresses
    addr = vip if dialled else endpoint_address(one.addresses, ipv4, service.families)
    if addr is None:
        family = "IPv4" if ipv4 else "IPv6"
        return out._replace(addr=one.addresses[0], why=f"has no address that {family} can use")
    out = out._replace(addr=addr)
    if not store.usable_address(one, addr):
        owner = store.claims.owner(one.profile.network, addr)
        return out._replace(why=f"its address belongs to {owner} now")
    target = target_port(service, port, one)
    if not target:
        return out._replace(why=f"has no target for port {port.service}")
    return out._replace(port=target)


def _nearest(
    store: Store, service: Service, source: Profile, found: list[Candidate]
) -> list[Candidate]:
    ranks = {
        each.uid: rank(service.preference, source, store.workloads[each.uid].profile)
        for each in found
        if each.chosen
    }
    strict = service.mode is Mode.STRICT
    near = [value for value, whole in ranks.values() if whole or not strict]
    best = max(near, default=0)
    return [_ranked(each, ranks, best, strict) for each in found]


def _ranked(
    each: Candidate, ranks: dict[str, tuple[int, bool]], best: int, strict: bool
) -> Candidate:
    if each.uid not in ranks:
        return each
    value, whole = ranks[each.uid]
    if strict and not whole:
        return each._replace(rank=value, why="not near enough, and locality is strict")
    if value < best:
        return each._replace(rank=value, why="farther away than others")
    return each._replace(rank=value)
