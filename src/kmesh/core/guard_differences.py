"""Policies as they are desired against what was planned: which pod is guarded by what, where, and
whose address is whose. For ``kmesh diff``.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from kmesh.abi.check import seal_last
from kmesh.abi.layout import CidrKey, Guard, GuardMode, Peer
from kmesh.core.apart import (
    CLOSED,
    DESIRED,
    FAILING,
    NOT_YET,
    PLANNED,
    PODS,
    POLICIES,
    WAITING,
    Apart,
    Step,
    how,
)
from kmesh.core.audit import Kind
from kmesh.core.claims import HOST_NETWORK
from kmesh.core.commands import EXEMPT, GUARD, LINK, OWN, PEER
from kmesh.core.own import row
from kmesh.core.row_names import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kmesh.core.guards import Content, Guards
    from kmesh.core.steer import Steering

SLICE = 256
NOT_WHOLE = "the control plane's first answer about policies is not whole yet"
NOBODY_S = "it is no enrolled pod's"


def guarded(steering: Steering) -> Iterator[Step]:
    """Slice by slice; what the planner is about to mend says so."""
    guards = steering.guards
    if not guards.started:
        yield Step(PODS, 0, [Apart(DESIRED, PLANNED, POLICIES, "all", WAITING, NOT_WHOLE)])
        return
    told = False
    for step in _steps(steering):
        told = told or bool(step.found)
        yield step._replace(found=[each._replace(why=each.why or why(guards))
                                   for each in step.found])  # fmt: skip
    if not told and (said := why(guards)):
        kind = FAILING if guards.failing else WAITING
        yield Step(PODS, 0, [Apart(DESIRED, PLANNED, POLICIES, "all", kind, said)])


def why(guards: Guards) -> str:
    """Why a difference is there; empty when no reason is known."""
    return guards.failing or ("" if guards.idle() else NOT_YET)


def _steps(steering: Steering) -> Iterator[Step]:
    guards = steering.guards
    cookies = iter(list({**steering.pods.wanted, **guards.links}))
    while some := list(islice(cookies, SLICE)):
        yield Step(PODS, 0, [apart for cookie in some for apart in _pod(steering, cookie)])
    known = {address for uid in steering.pods.wanted.values() for address in _mine(steering, uid)}
    yield Step(PODS, 0, _extra(steering, GUARD, guards.guards.keys() - known))
    wanted = {cookie.to_bytes(8, "little") for cookie in steering.pods.wanted}
    yield Step(PODS, 0, _extra(steering, OWN, guards.own.rows.keys() - wanted))
    yield Step(PODS, 0, _exempt(steering))
    if guards.peers.on:
        addresses = dict.fromkeys((*steering.store.roster.addresses(), *guards.peers.rows))
        left = iter(addresses)
        while peers := list(islice(left, SLICE)):
            yield Step(POLICIES, 0, list(_peers(steering, peers)))


def _mine(steering: Steering, uid: str) -> list[bytes]:
    """The addresses a pod of this workload is guarded by: while nobody knows the workload, those
    that it was guarded by before."""
    guards = steering.guards
    if uid in steering.store.workloads:
        return guards.addresses(uid)
    return [address for address, value in guards.guards.items() if guards.belongs(value, uid)]


def _pod(steering: Steering, cookie: int) -> Iterator[Apart]:
    guards, key = steering.guards, cookie.to_bytes(8, "little")
    place, uid = guards.links.get(cookie), steering.pods.wanted.get(cookie)
    if uid is None:
        yield _apart(steering, LINK, key, Kind.UNPLANNED)
        return
    pod = guards.pods_guarded.get(cookie)
    if pod is not None and pod.why:
        yield Apart(DESIRED, PLANNED, GUARD, uid, CLOSED, pod.why)
    workload = steering.store.workloads.get(uid)
    if workload is None or workload.traits & HOST_NETWORK:
        return
    addresses = guards.addresses(uid)
    own = row(key, addresses)
    if guards.own.rows.get(key) != own:
        yield _apart(steering, OWN, key, how(own, guards.own.rows.get(key)))
    if addresses and place != guards.places(cookie):
        yield _apart(steering, LINK, key, how(True, place))
    applicable = guards.index.of(workload)
    content = None if guards.closing(applicable) else applicable.policies
    record = guards.record(cookie, uid, content)
    policies = dict[Apart, None]()
    for address in addresses:
        found = guards.guards.get(address)
        if found is None:
            yield _apart(steering, GUARD, address, Kind.MISSING)
            continue
        planned = contents(guards, Guard.unpack(found))
        if content is not None and planned is not None and content != planned:
            policies.update(dict.fromkeys(_policies(uid, content, planned)))
        elif record is None or found != seal_last(address, record.pack()):
            yield _apart(steering, GUARD, address, Kind.ALTERED)
    yield from policies


def contents(guards: Guards, planned: Guard) -> Content | None:
    """The policies that a record leads to; None when it refuses everybody, or when nobody knows."""
    if planned.mode is GuardMode.ALLOW:
        return ()
    every = guards.sets.rules.items()
    return next((content for content, rules in every if rules.id == planned.set), None)


def _policies(uid: str, desired: Content, planned: Content) -> Iterator[Apart]:
    first = {policy.key: policy for policy in desired}
    second = {policy.key: policy for policy in planned}
    for key in sorted({*first, *second}):
        if first.get(key) != second.get(key):
            kind = how(first.get(key), second.get(key))
            yield Apart(DESIRED, PLANNED, POLICIES, f"{key} of {uid}", str(kind))


def _extra(steering: Steering, table: str, keys: Iterable[bytes]) -> list[Apart]:
    return [
        _apart(steering, table, key, Kind.UNPLANNED)._replace(why=NOBODY_S) for key in sorted(keys)
    ]


def _exempt(steering: Steering) -> list[Apart]:
    guards = steering.guards
    return [
        _apart(steering, EXEMPT, CidrKey(plen, base).pack(), kind)
        for cidrs, kind in (
            (guards.exempt - guards.exempted, Kind.MISSING),
            (guards.exempted - guards.exempt, Kind.UNPLANNED),
        )
        for base, plen in sorted(cidrs)
    ]


def _peers(steering: Steering, addresses: Iterable[bytes]) -> Iterator[Apart]:
    peers, ids = steering.guards.peers, steering.guards.names.identities
    for address in addresses:
        owner, found = peers.owner(address), peers.rows.get(address)
        wanted = None
        if owner is not None:
            id_ = ids.get(owner.identity, 0)
            wanted = seal_last(address, Peer(id_, 0, 0).pack())
        if wanted != found:
            yield _apart(steering, PEER, address, how(wanted, found))


def _apart(steering: Steering, table: str, key: bytes, kind: Kind) -> Apart:
    return Apart(DESIRED, PLANNED, table, describe(steering, table, key), str(kind))
