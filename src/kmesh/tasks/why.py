"""``GET /why``: where a connection goes, why, who decides, and which layer differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from kmesh.abi.layout import Reason
from kmesh.bpf.answers import Live
from kmesh.core.guard_why import planned
from kmesh.core.policy import Attempt, principal
from kmesh.core.route_names import UnknownEnd, ends, split
from kmesh.core.route_shape import shape
from kmesh.core.route_why import admissions, route
from kmesh.tasks.avoid import AvoidList
from kmesh.tasks.problems import answer

if TYPE_CHECKING:
    from kmesh.core.lookup import Kernel
    from kmesh.core.route_why import Admission, Route
    from kmesh.core.steer import Steering
    from kmesh.tasks.admin_context import Context

OPEN = (Reason.ALLOWED, Reason.EXEMPT)


def explain(
    steering: Steering,
    kernel: Kernel,
    source: str,
    destination: str,
    bundled: Kernel | None = None,
) -> dict[str, Any]:
    """The whole answer. ``source`` and ``destination`` are addresses or names, the latter with a
    port if need be. ``bundled`` are the tables as they were planned of an agent that is asked by
    its bundle. Raises UnknownEnd, BpfError."""
    host, port = split(destination)
    asked = ends(steering, source, host, port)
    bypass = bool(steering.planner.open_reasons >> Reason.WAYPOINT & 1)
    found = route(steering, kernel, asked, bypass, offline=bundled is not None)

    def admit(cookie: int, attempt: Attempt) -> tuple[Reason, int | str]:
        return bundled.admit(cookie, attempt) if bundled else planned(steering.guards, attempt)

    admitted = admissions(steering, admit, kernel, found)
    said = shape(found, admitted, steering.planner.open_reasons)
    return {**verdict(steering, found, admitted, said["fail_open"]), **said}


def verdict(
    steering: Steering, found: Route, admitted: list[Admission], opened: bool
) -> dict[str, Any]:
    """The answer in one line: whether it is let through, by whom. Where pods of one service
    decide differently, the first that denies counts."""
    outcome, client = found.desired, found.ends.client
    worst = next((each for each in admitted if each.verdict.reason not in OPEN), None)
    worst = worst or (admitted[0] if admitted else None)
    if outcome.action == "refuse" and not opened:
        allowed, reason, by = False, outcome.reason, None
    elif worst is None:
        allowed, reason, by = True, outcome.reason, None
    else:
        allowed, reason, by = worst.verdict.reason in OPEN, worst.verdict.reason, worst.verdict
    guarded = {each.uid for each in steering.guards.records.pods.values()}
    return {
        "layer": "desired",
        "allowed": allowed,
        "reason": reason.name.lower(),
        "policy": by.policy or None if by else None,
        "rule": by.rule if by and by.rule >= 0 else None,
        "dry_run_denies": by.dry_run if by else None,
        "source_workload": client.uid if client else None,
        "source_identity": principal(client.identity) if client else None,
        "destination_workload": worst.workload.uid if worst else None,
        "guarded_here": worst is not None and worst.workload.uid in guarded,
    }


def routes(context: Context) -> list[web.RouteDef]:
    """GET /why."""
    kernel, avoided = Live(context.plane), AvoidList(context.plane, context.labels)

    def explained(source: str, destination: str) -> dict[str, Any]:
        found = explain(context.steering, kernel, source, destination)
        reached = {(each["address"], each["port"]) for each in found["endpoints"]}
        client = found["source_workload"]
        rows = avoided.shown(client) if client else []
        return {**found, "avoided": [r for r in rows if (r["address"], r["port"]) in reached]}

    async def why(request: web.Request) -> web.Response:
        query = request.query
        source, destination = query.get("source", ""), query.get("destination", "")
        if not source or not destination:
            raise UnknownEnd("source and destination are needed")
        if query.get("port"):
            bare = destination.strip("[]")
            destination = f"[{bare}]:{query['port']}" if ":" in bare else f"{bare}:{query['port']}"
        # The writer may replace maps: between two of its batches they stay.
        return answer(await context.writer.ask(lambda: explained(source, destination)))

    return [web.get("/why", why)]
