"""Where a connection goes and why: the same rules on every layer, and the first that differs.

*desired* is what the control plane's resources say now, *planned* what the writer believes the
kernel holds, *kernel* what lies in the pinned tables (or in a bundle's copy).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.endpoint_why import Candidate, candidates
from kmesh.core.guard_why import wanted
from kmesh.core.ids import Ids
from kmesh.core.lookup import EXACT, NOT_MESH, Outcome, in_kernel, in_rows
from kmesh.core.policy import Attempt
from kmesh.core.render import Render, View, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kmesh.abi.layout import Reason
    from kmesh.core.guards import Guards
    from kmesh.core.lookup import Kernel
    from kmesh.core.model import Service, Workload
    from kmesh.core.policy import Verdict
    from kmesh.core.steer import Steering
    from kmesh.core.store import Frontend, Store

    Admit = Callable[[int, Attempt], tuple[Reason, int | str]]
    """For the cookie of a guarded namespace and an attempt: the reason, and the policy that decides
    by id or name."""


class Ends(NamedTuple):
    """Who connects where. ``cookie`` is the client's namespace when it is enrolled on this node."""

    source: bytes
    client: Workload | None
    cookie: int | None
    destination: bytes
    port: int


class Route(NamedTuple):
    """The answer. ``frontend`` is None when no service has the address; then the connection goes
    where it was dialled. ``differs`` is (layer, what)."""

    ends: Ends
    view: int
    frontend: Frontend | None
    services: tuple[str, ...]
    service: Service | None
    target: int | None
    candidates: list[Candidate]
    desired: Outcome
    planned: Outcome
    kernel: Outcome
    differs: tuple[str, str] | None


class Admission(NamedTuple):
    """Whether a pod lets the connection in, by what is desired. ``planned`` and ``kernel`` are None
    when this agent does not guard it; else the reason and the policy's name."""

    addr: bytes
    port: int
    workload: Workload
    verdict: Verdict
    planned: tuple[str, str] | None
    kernel: tuple[str, str] | None


def route(
    steering: Steering, kernel: Kernel, ends: Ends, bypass: bool = False, offline: bool = False
) -> Route:
    """Everything about where it goes. ``offline``: nobody plans, what differs waits for nobody.
    ``bypass``: waypoints are passed by (--fail-open waypoint)."""
    store = steering.store
    found = covering(store, ends.destination)
    row = steering.pods.rows.get(ends.cookie or 0)
    view = row.view if row else 0
    client = _view(store, ends.client)
    keys = store.claimants.get(found, ()) if found else ()
    service = choose([store.services[key] for key in keys], client.namespace) if keys else None
    port = next((p for p in service.ports if p.service == ends.port), None) if service else None
    listed: list[Candidate] = []
    if service and port and found:
        listed = candidates(store, service, found, client.profile, port)
    desired = _desired(store, found, client, ends, bypass)
    planned, inside = _planned(steering, ends, view), _kernel(kernel, ends, view)
    waits = not offline and not steering.idle()
    differs = _differs(
        steering, found, desired, planned, inside, enrolled=row is not None, waits=waits
    )
    return Route(
        ends, view, found, tuple(keys), service, port.target if port else None, listed, desired,
        planned, inside, differs,
    )  # fmt: skip


def admissions(steering: Steering, admit: Admit, kernel: Kernel, found: Route) -> list[Admission]:
    """What each pod says to which the connection may go; nothing for what is no workload.
    ``admit`` answers for what is planned, as ``kernel`` does for what lies there."""
    places = list(found.desired.endpoints) or [(found.ends.destination, found.ends.port)]
    if found.desired.action == "refuse":
        return []
    guards, answers = steering.guards, []
    cookies = {uid: cookie for cookie, uid in steering.pods.wanted.items()}
    for addr, port in places:
        workload = guards.peers.owner(addr)
        verdict = wanted(guards, found.ends.source, addr, port)
        if workload is None or verdict is None:
            continue
        planned = inside = None
        cookie = cookies.get(workload.uid)
        if cookie is not None and (cookie in guards.records.pods or cookie in guards.places.links):
            identity = found.ends.client.identity if found.ends.client else None
            attempt = Attempt(found.ends.source, addr, port, identity)
            planned = _said(guards, *admit(cookie, attempt))
            inside = _said(guards, *kernel.admit(cookie, attempt))
        answers.append(Admission(addr, port, workload, verdict, planned, inside))
    return answers


def unequal(admitted: Iterable[Admission]) -> tuple[str, str] | None:
    """(layer, what) of the first admission that is not the same on every layer."""
    for each in admitted:
        if each.planned is None or each.kernel is None:
            continue
        said = each.verdict.reason.name.lower()
        for layer, (reason, _), before in (
            ("planned", each.planned, said), ("kernel", each.kernel, each.planned[0]),
        ):  # fmt: skip
            if reason != before:
                spoken = f"{reason} instead of {before}".replace("_", " ")
                return layer, f"the policies of {each.workload.uid} say {spoken}"
    return None


def _said(guards: Guards, reason: Reason, policy: int | str) -> tuple[str, str]:
    named = guards.names.name(policy) if isinstance(policy, int) and policy else policy or ""
    return reason.name.lower(), str(named)


def covering(store: Store, addr: bytes) -> Frontend | None:
    """The VIP that a dialled address belongs to: itself, else the longest prefix."""
    if (addr, EXACT) in store.claimants:
        return addr, EXACT
    return longest(addr, (each for each in store.claimants if each[1] != EXACT))


def longest(addr: bytes, prefixes: Iterable[Frontend]) -> Frontend | None:
    """The longest of some prefixes that covers an address of 16 bytes."""
    number = int.from_bytes(addr, "big")
    fitting = (
        (base, plen)
        for base, plen in prefixes
        if number >> (EXACT - plen) == int.from_bytes(base, "big") >> (EXACT - plen)
    )
    return max(fitting, key=lambda each: each[1], default=None)


def _view(store: Store, client: Workload | None) -> View:
    if client is None:
        return View("", store.home)
    return View(client.identity.namespace, client.profile)


def _desired(
    store: Store, found: Frontend | None, client: View, ends: Ends, bypass: bool
) -> Outcome:
    if found is None:
        return NOT_MESH
    ids = Ids()
    rows = Render(store, ids.get, ids.get, bypass).rows(found, {1: client})
    return in_rows(rows.get, lambda _: found, ends.destination, ends.port, 1)


def _planned(steering: Steering, ends: Ends, view: int) -> Outcome:
    planner = steering.planner
    found = longest(ends.destination, planner.cidrs) if planner.cidrs_on else None
    return in_rows(
        lambda key: row.target if (row := planner.records.get(key)) else None,
        lambda _: found, ends.destination, ends.port, view,
    )  # fmt: skip


def _kernel(kernel: Kernel, ends: Ends, view: int) -> Outcome:
    if ends.cookie is not None:
        row = kernel.enrol(ends.cookie)
        view = row.view if row else 0
    return in_kernel(kernel, ends.destination, ends.port, view)


def _differs(
    steering: Steering,
    found: Frontend | None,
    desired: Outcome,
    planned: Outcome,
    kernel: Outcome,
    *,
    enrolled: bool,
    waits: bool,
) -> tuple[str, str] | None:
    if not desired.agrees(planned):
        failure = steering.failing.get(found) if found else None
        if failure is not None:
            return "planned", f"it could not be written: {failure.why}"
        if waits:
            return "planned", "the writer has not come to it yet"
        if not enrolled:
            return None  # another client's view: this node has no records for it
        return "planned", "the planner holds something else than is wanted"
    if not planned.agrees(kernel):
        return "kernel", "the kernel's tables hold something else than was written"
    return None
