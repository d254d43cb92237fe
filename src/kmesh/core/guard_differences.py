"""Policies as they are desired against what was planned: which pod is guarded by what, where, and
whose address is whose. For ``kmesh diff``.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import chain, islice
from typing import TYPE_CHECKING

from kmesh.abi.check import seal_last
from kmesh.abi.layout import CidrKey, Guard, GuardMode, Peer, Reason
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
    from collections.abc import Iterable, Iterator, Mapping

    from kmesh.core.guards import Guards
    from kmesh.core.model import Authorization, Workload
    from kmesh.core.steer import Steering

    Prints = Mapping[str, str]
    Enforced = Mapping[int, Prints]
    """Of each set that guards lead to, the fingerprints of its policies."""

SLICE = 256
NOT_WHOLE = "the control plane's first answer about policies is not whole yet"
NOBODY_S = "it is no enrolled pod's"
NOT_KNOWN = "it leads to policies that nobody knows"


def guarded(steering: Steering, bundled: Enforced | None = None) -> Iterator[Step]:
    """Slice by slice; what the planner is about to mend says so. ``bundled`` are the sets of an
    agent that is asked by its bundle: nobody plans here."""
    guards = steering.guards
    if not guards.started:
        yield Step(PODS, 0, [Apart(DESIRED, PLANNED, POLICIES, "all", WAITING, NOT_WHOLE)])
        return
    told = False
    for step in _steps(steering, bundled):
        reason = _why(guards) if bundled is None else ""
        found = [each._replace(why=each.why or reason) for each in step.found]
        told = told or bool(found)
        yield step._replace(found=found)
    if not told and bundled is None and (said := _why(guards)):
        kind = FAILING if guards.slices.failing else WAITING
        yield Step(PODS, 0, [Apart(DESIRED, PLANNED, POLICIES, "all", kind, said)])


def enforced(guards: Guards) -> dict[int, Prints]:
    """The sets that are known here."""
    return {rules.id: prints(content) for content, rules in guards.sets.rules.items()}


def prints(policies: Iterable[Authorization]) -> Prints:
    """By the policy's key what changes when anything of it does."""
    return {each.key: sha256(repr(each).encode()).hexdigest()[:16] for each in policies}


def _why(guards: Guards) -> str:
    return guards.slices.failing or ("" if guards.idle() else NOT_YET)


def _steps(steering: Steering, bundled: Enforced | None) -> Iterator[Step]:
    guards, records = steering.guards, steering.guards.records
    cookies = iter(list({**steering.pods.wanted, **guards.places.links}))
    while some := list(islice(cookies, SLICE)):
        sets = enforced(guards) if bundled is None else bundled
        found = [apart for cookie in some for apart in _pod(steering, cookie, sets)]
        yield Step(PODS, 0, found)
    known = chain(*records.left().values(), *records.known().values())
    yield Step(PODS, 0, _extra(steering, GUARD, records.rows.keys() - set(known)))
    wanted = {cookie.to_bytes(8, "little") for cookie in steering.pods.wanted}
    yield Step(PODS, 0, _extra(steering, OWN, guards.own.rows.keys() - wanted))
    yield Step(PODS, 0, _exempt(steering))
    if guards.peers.on:
        rows = guards.peers.rows
        others = (each for each in steering.store.roster.addresses() if each not in rows)
        left = chain(list(rows), others)
        while peers := list(islice(left, SLICE)):
            yield Step(PODS, 0, list(_peers(steering, peers)))


def _pod(steering: Steering, cookie: int, sets: Enforced) -> Iterator[Apart]:
    guards, key = steering.guards, cookie.to_bytes(8, "little")
    place, uid = guards.places.links.get(cookie), steering.pods.wanted.get(cookie)
    if uid is None:
        yield _apart(steering, LINK, key, Kind.UNPLANNED)
        return
    pod = guards.records.status(cookie, uid)
    if pod is not None and pod.why:
        yield Apart(DESIRED, PLANNED, GUARD, uid, CLOSED, pod.why)
    workload = steering.store.workloads.get(uid)
    if workload is None or workload.traits & HOST_NETWORK:
        return
    addresses = guards.records.addresses(uid)
    own = row(key, addresses)
    if guards.own.rows.get(key) != own:
        yield _apart(steering, OWN, key, how(own, guards.own.rows.get(key)))
    if addresses and place != guards.places.of(cookie):
        yield _apart(steering, LINK, key, how(True, place))
    found: dict[Apart, None] = {}
    for address in addresses:
        found.update(dict.fromkeys(_record(steering, cookie, workload, address, sets)))
    yield from found


def _record(
    steering: Steering, cookie: int, workload: Workload, address: bytes, sets: Enforced
) -> Iterator[Apart]:
    guards, uid = steering.guards, workload.uid
    raw = guards.records.rows.get(address)
    if raw is None:
        yield _apart(steering, GUARD, address, Kind.MISSING)
        return
    applicable, planned = guards.index.of(workload), Guard.unpack(raw)
    closed = guards.records.closing(applicable)
    desired = None if closed else applicable.policies
    altered = _apart(steering, GUARD, address, Kind.ALTERED)
    if desired is None or planned.mode == GuardMode.REFUSE:
        if planned.mode != GuardMode.REFUSE:
            yield altered
        elif planned.reason != closed:
            yield altered._replace(why=f"it lets nobody in: {Reason(planned.reason).name.lower()}")
        return
    second = {} if planned.mode == GuardMode.ALLOW else sets.get(planned.set)
    if second is None:
        yield altered._replace(why=NOT_KNOWN)
    elif prints(desired) != second:
        yield from _policies(uid, prints(desired), second)
    else:
        record = guards.records.record(cookie, uid, desired)
        if record is not None and raw != seal_last(address, record.pack()):
            yield altered


def _policies(uid: str, desired: Prints, planned: Prints) -> Iterator[Apart]:
    for key in sorted({*desired, *planned}):
        if desired.get(key) != planned.get(key):
            kind = how(desired.get(key), planned.get(key))
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
            (guards.exempt.wanted - guards.exempt.there, Kind.MISSING),
            (guards.exempt.there - guards.exempt.wanted, Kind.UNPLANNED),
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
