"""Rows of ``GET /top``: the services and workloads of this node, with their health and rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Reason, VipAction
from kmesh.core.addr import is_ipv4, text
from kmesh.core.flows import rates
from kmesh.core.model import Mode, Trait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.core.flows import Row, Sums
    from kmesh.core.model import Service, Vip
    from kmesh.core.pods import Pod
    from kmesh.core.steer import Steering

HEALTHY = int(Trait.HEALTHY)
EXACT = 128
REFUSING = frozenset(
    reason.name.lower().replace("_", " ")
    for reason in Reason
    if Reason.NO_ENDPOINT <= reason <= Reason.INCONSISTENT
)
"""States of a service in which the programs refuse its clients."""
SORTS = ("name", "endpoints", "connections", "bytes", "failed", "refused", "rtt", "slots")
"""What the services can be sorted by; equal ones are in the order of their names."""


class State(NamedTuple):
    """What connections to a service meet: ``ok``, or the reason of the worst port."""

    name: str
    why: str = ""


def matches(needle: str, service: Service) -> bool:
    """Whether every word of ``needle`` (lower case) is in the service's key or a VIP."""
    if not needle:
        return True
    haystack = " ".join((service.key, *map(vip, service.vips))).lower()
    return all(word in haystack for word in needle.split())


def sort_key(steering: Steering, service: Service, sums: Sums, by: str) -> tuple[float, str]:
    """Largest first, then by name; ``by`` is one of SORTS."""
    if by == "name":
        return 0.0, service.key
    if by == "endpoints":
        return -len(steering.store.members.get(service.key, ())), service.key
    if by == "slots":
        return -room(steering, service)[1], service.key
    found = rates(sums.services.get(service.key), sums.seconds)
    if by == "bytes":
        value = (found["sent"] or 0.0) + (found["received"] or 0.0)
    else:
        value = found["rtt_ms" if by == "rtt" else by] or 0.0
    return -value, service.key


def service_row(steering: Steering, service: Service, sums: Sums) -> Row:
    """One service; its endpoints are counted, so this costs as much as it has."""
    store = steering.store
    members = store.members.get(service.key, {}).values()
    state = state_of(steering, service)
    records, slots = room(steering, service)
    found = rates(sums.services.get(service.key), sums.seconds)
    if state.name in REFUSING and not found["refused"]:
        found["refused"] = None  # refused at connect(): counted by reason, not by service
    return {
        "key": service.key,
        "namespace": service.namespace,
        "hostname": service.hostname,
        "vips": [vip(each) for each in service.vips],
        "ports": [list(port) for port in service.ports],
        "endpoints": len(members),
        "healthy": sum(bool(member.traits & HEALTHY) for member in members),
        "local": sum(member.profile.node == store.home.node for member in members),
        "mode": service.mode.name.lower(),
        "waypoint": service.waypoint is not None,
        "records": records,
        "slots": slots,
        "state": state.name,
        "why": state.why,
        **found,
    }


def workload_row(steering: Steering, pod: Pod, sums: Sums) -> Row:
    """One enrolled workload; ``why`` says what keeps it from being as wanted."""
    workload = steering.store.workloads.get(pod.uid)
    guard = steering.guards.records.pods.get(pod.cookie)
    failure = steering.failing.get(pod.cookie)
    row: Row = {
        "uid": pod.uid,
        "name": pod.uid.rpartition("/")[2],
        "namespace": pod.uid.split("/")[-2] if "/" in pod.uid else "",
        "addresses": [],
        "services": [],
        "enrolled": pod.enrol is not None,
        "known": workload is not None,
        "guard": guard.mode.name.lower() if guard else None,
        "why": failure.why if failure else guard.why if guard else "",
    }
    if workload is not None:
        row["namespace"] = workload.identity.namespace
        row["addresses"] = [text(each) for each in workload.addresses]
        row["services"] = [each.service for each in workload.memberships]
    return {**row, **rates(sums.workloads.get(pod.uid), sums.seconds)}


def endpoint_rows(steering: Steering, service: Service, most: int) -> Iterator[Row]:
    """The first ``most`` endpoints of a service: those of this node, then by name."""
    home = steering.store.home
    members = steering.store.members.get(service.key, {}).values()
    for member in sorted(members, key=lambda m: (m.profile.node != home.node, m.uid))[:most]:
        yield {
            "uid": member.uid,
            "addresses": [text(each) for each in member.addresses],
            "healthy": bool(member.traits & HEALTHY),
            "local": member.profile.node == home.node,
            "node": member.profile.node,
            "zone": member.profile.zone,
            "network": member.profile.network,
            "weight": member.capacity,
        }


def state_of(steering: Steering, service: Service) -> State:
    """From the records as they are in the kernel; a failure to write them comes first."""
    store = steering.store
    frontends = list(store.frontends_of(service))
    for frontend in frontends:
        if frontend in steering.failing:
            return State("failing", steering.failing[frontend].why)
    if not frontends:
        return State("no vip")
    if service.mode is Mode.PASSTHROUGH:
        return State("passthrough")
    reasons = [
        record.target.reason
        for frontend in frontends
        for key in steering.planner.frontends.get(frontend, ())
        if (record := steering.planner.records[key]).target.action is VipAction.REFUSE
        and record.target.reason is not Reason.UNKNOWN_PORT
    ]
    if reasons:
        return State(min(reasons).name.lower().replace("_", " "))
    if any(frontend not in steering.planner.frontends for frontend in frontends):
        return State("pending")
    return State("ok")


def room(steering: Steering, service: Service) -> tuple[int, int]:
    """How many records and endpoint slots a service takes in the kernel's tables."""
    planner = steering.planner
    keys = [
        key
        for frontend in steering.store.frontends_of(service)
        for key in planner.frontends.get(frontend, ())
    ]
    segments = {segment for key in keys if (segment := planner.records[key].segment)}
    return len(keys), sum(len(segment.slots) // 24 for segment in segments)


def vip(each: Vip) -> str:
    """``10.0.0.1`` or ``10.0.0.0/24``."""
    if each.plen == EXACT:
        return text(each.addr)
    return f"{text(each.addr)}/{each.plen - 96 if is_ipv4(each.addr) else each.plen}"
