"""The answer of core/route_why.py as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kmesh.core import addr as addresses
from kmesh.core.lookup import EXACT
from kmesh.core.route_why import unequal

if TYPE_CHECKING:
    from kmesh.core.endpoint_why import Candidate
    from kmesh.core.lookup import Outcome
    from kmesh.core.route_why import Admission, Route
    from kmesh.core.store import Frontend


def shape(
    found: Route, admitted: list[Admission], open_reasons: int = 0, most: int = 200
) -> dict[str, Any]:
    """Everything; of endpoints and admissions the first ``most``, chosen ones first."""
    ends, service = found.ends, found.service
    chosen_first = sorted(found.candidates, key=lambda each: (not each.chosen, each.uid))
    differs = found.differs or unequal(admitted)
    layers = {"desired": found.desired, "planned": found.planned, "kernel": found.kernel}
    return {
        "source": {
            "address": addresses.text(ends.source),
            "workload": ends.client.uid if ends.client else None,
            "enrolled": ends.cookie is not None, "view": found.view,
        },
        "destination": {"address": addresses.text(ends.destination), "port": ends.port},
        "frontend": None if found.frontend is None else {
            "address": prefix(found.frontend), "services": list(found.services),
            "service": service.key if service else None,
        },
        "port": None if service is None else {
            "service": ends.port, "known": found.target is not None,
            "target": found.target or None,
        },
        "waypoint": bool(service and service.waypoint),
        "mode": service.mode.name.lower() if service else None,
        "preference": [scope.name.lower() for scope in service.preference] if service else [],
        "endpoints": [_endpoint(each) for each in chosen_first[:most]],
        "endpoints_total": len(found.candidates),
        "layers": {name: _outcome(each) for name, each in layers.items()},
        "fail_open": found.desired.action == "refuse"
        and bool(open_reasons >> found.desired.reason & 1),
        "differs": None if differs is None else {"layer": differs[0], "what": differs[1]},
        "admission": [_admission(each) for each in admitted[:most]],
    }  # fmt: skip


def prefix(frontend: Frontend) -> str:
    """``10.0.0.1`` or ``10.0.0.0/24``."""
    base, plen = frontend
    if plen == EXACT:
        return addresses.text(base)
    return f"{addresses.text(base)}/{plen - 96 if addresses.is_ipv4(base) else plen}"


def _endpoint(each: Candidate) -> dict[str, Any]:
    return {
        "workload": each.uid, "address": addresses.text(each.addr) if each.addr else None,
        "port": each.port or None, "node": each.node, "rank": each.rank, "weight": each.weight,
        "chosen": each.chosen, "why": each.why,
    }  # fmt: skip


def _outcome(each: Outcome) -> dict[str, Any]:
    return {
        "action": each.action, "reason": each.reason.name.lower(),
        "endpoints": [
            {"address": addresses.text(addr), "port": port, "slots": slots}
            for (addr, port), slots in sorted(each.endpoints.items())
        ],
    }  # fmt: skip


def _admission(each: Admission) -> dict[str, Any]:
    verdict = each.verdict
    return {
        "workload": each.workload.uid, "address": addresses.text(each.addr), "port": each.port,
        "reason": verdict.reason.name.lower(), "policy": verdict.policy or None,
        "rule": verdict.rule if verdict.rule >= 0 else None, "dry_run_denies": verdict.dry_run,
        "planned": _said(each.planned), "kernel": _said(each.kernel),
    }  # fmt: skip


def _said(answer: tuple[str, str] | None) -> dict[str, Any] | None:
    return None if answer is None else {"reason": answer[0], "policy": answer[1] or None}
