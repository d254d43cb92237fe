"""Whether a pod lets a connection in: by what is wanted now, and by the rows that the writer
believes the kernel holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.layout import Guard, GuardMode, Peer, Reason
from kmesh.core.policy import Attempt, Verdict, exempt, judge

if TYPE_CHECKING:
    from kmesh.core.guards import Guards
    from kmesh.core.model import Authorization, Identity
    from kmesh.core.steer import Steering


def wanted(guards: Guards, source: bytes, destination: bytes, port: int) -> Verdict | None:
    """What a connection between 16-byte addresses meets by what is wanted now, and which rule
    decides; None when the destination belongs to no workload."""
    workload = guards.peers.owner(destination)
    if workload is None:
        return None
    if exempt(source, destination, guards.exempt.wanted):
        return Verdict(Reason.EXEMPT)
    applicable = guards.index.of(workload)
    closed = guards.records.closing(applicable)
    if closed is not None:
        return Verdict(closed)
    peer = guards.peers.owner(source)
    identity = peer.identity if peer else None
    return judge(applicable.policies, Attempt(source, destination, port, identity))


def forbids(steering: Steering, source: bytes, destination: bytes, port: int) -> bool:
    """Whether a pod that is guarded here refuses a connection between 16-byte addresses, by what
    is wanted now."""
    guards = steering.guards
    verdict = wanted(guards, source, destination, port)
    reason = verdict.reason if verdict else Reason.UNLISTED
    if reason is not Reason.EXEMPT and destination not in guards.records.rows:
        reason = Reason.UNLISTED
    passed = reason in (Reason.ALLOWED, Reason.EXEMPT)
    return not passed and not steering.planner.open_reasons >> reason & 1


def planned(guards: Guards, attempt: Attempt) -> tuple[Reason, str]:
    """(reason, key of the deciding policy or empty) for a connection that comes to its destination;
    INCONSISTENT where a record leads to policies that nobody knows."""
    source = attempt.source
    if exempt(source, attempt.destination, guards.exempt.there):
        return Reason.EXEMPT, ""
    raw = guards.records.rows.get(attempt.destination)
    if raw is None:
        return Reason.UNLISTED, ""
    record = Guard.unpack(raw)
    if record.mode == GuardMode.REFUSE:
        return Reason(record.reason), ""
    policies = leads_to(guards, record)
    if policies is None:
        return Reason.INCONSISTENT, ""
    verdict = judge(policies, attempt._replace(identity=_identity(guards, source)))
    return verdict.reason, verdict.policy


def leads_to(guards: Guards, record: Guard) -> tuple[Authorization, ...] | None:
    """The policies of a record that evaluates some; None when it is of a set of an agent before."""
    if record.mode == GuardMode.ALLOW:
        return ()
    sets = guards.sets.rules.items()
    return next((content for content, rules in sets if rules.id == record.set), None)


def _identity(guards: Guards, source: bytes) -> Identity | None:
    raw = guards.peers.rows.get(source)
    if raw is None:
        return None
    number = Peer.unpack(raw).identity
    every = guards.names.identities.items()
    return next((identity for identity, id_ in every if id_ == number), None)
