"""The agent's state as one JSON object, each part named after the layer it was read from."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.core.addr import is_ipv4, text
from kmesh.core.dirty import EXACT
from kmesh.core.plain import plain
from kmesh.core.policy import LOOPBACK
from kmesh.tasks.top_sources import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kmesh.core.commands import Owner
    from kmesh.core.events import Json
    from kmesh.core.guards import Guards
    from kmesh.tasks.collect import Sources
    from kmesh.tasks.fill import Fill
    from kmesh.tasks.places import Places


FORGETTING = frozenset({"km_flow", "km_denial", "km_udp_out", "km_traffic", "km_avoid"})


def describe(version: str, sources: Sources, places: Places, start_cpu: float) -> dict[str, Json]:
    """Everything GET /state shows; times in seconds unless the name says otherwise."""
    writer, session, tables = sources.writer, sources.session, sources.tables
    written, steering = writer.statistics(), writer.steering
    planned = steering.statistics()
    vips, slots = tables.capacity()
    idle = steering.idle() and not writer.mailbox
    return {
        "version": version,
        "synced": planned.started and session.synced and idle,
        "revision": written.revision,
        "xds": plain(sources.xds.statistics()) if sources.xds else None,
        "planner": plain(planned),
        "failing": {title(owner): failure.why for owner, failure in steering.failing.items()},
        "writer": {
            **{k: v for k, v in plain(written).items() if k != "delays"},
            "visible_ms": quantiles(written.delays),
        },
        "mailbox": plain(writer.mailbox.statistics()),
        "kernel": {
            "record_capacity": vips,
            "slot_capacity": slots,
            "reasons": {
                f"{hook.name.lower()} {reason.name.lower()}": count
                for (hook, reason), count in tables.reasons().items()
            },
        },
        "authorization": authorization(steering.guards, sources, places),
        "loop": plain(sources.lag.statistics()),
        "restarts": dict(sources.supervisor.restarts),
        "process": {
            "start_cpu_seconds": start_cpu,
            "cpu_seconds": cpu_seconds(),
            "peak_rss_kib": peak_rss_kib(),
        },
    }


def authorization(guards: Guards, sources: Sources, places: Places) -> dict[str, Json]:
    """How each pod is guarded, and how often each policy decided how."""
    verdicts: dict[str, dict[str, int]] = {}
    for (policy, verdict), count in sources.tables.verdicts().items():
        name = guards.names.name(policy) if policy else "no policy"
        verdicts.setdefault(name, {})[verdict.name.lower()] = count
    return {
        **plain(guards.statistics()),
        "pods": [
            {
                **plain(pod),
                "mode": pod.mode.name.lower(),
                "reason": pod.reason.name.lower(),
                "hook": hook(guards.places.links.get(pod.cookie)),
            }
            for pod in guards.records.pods.values()
        ],
        "exempt": [title(cidr) for cidr in sorted(guards.exempt.wanted)],
        "exempt_always": [*(title(cidr) for cidr in LOOPBACK), "the pod's own addresses"],
        "verdicts": plain(verdicts),
        "denials": [plain(each) for each in sources.denials.last],
        "records": sources.denials.statistics().records,
        "evictor": plain(sources.evictor.statistics()),
        "places": plain(places.statistics()),
    }


def hook(place: bytes | None) -> str:
    """Where a pod is guarded, by its packed interfaces."""
    return "none" if place is None else "tcx" if place else "sk_lookup"


def capacity(maps: Mapping[str, Fill]) -> dict[str, Json]:
    """Fill and limit of every counted table; ``forgets``: the oldest row goes when it is full."""
    return {
        name: {
            "used": fill.entries,
            "capacity": fill.capacity,
            "limit": fill.limit,
            "option": OPTIONS.get(name, ""),
            "forgets": name in FORGETTING,
        }
        for name, fill in maps.items()
    }


def title(owner: Owner) -> str:
    """What failed: ``10.0.0.1``, ``10.0.0.0/24``, ``pod <cookie>`` or ``tables``."""
    if isinstance(owner, int):
        return f"pod {owner}"
    if owner is None:
        return "tables"
    addr, plen = owner
    length = plen - 96 if is_ipv4(addr) else plen
    return text(addr) if plen == EXACT else f"{text(addr)}/{length}"


def cpu_seconds() -> float:
    """CPU time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_rss_kib() -> int:
    """Most resident memory ever; getrusage would count the parent's before exec as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Count, and p50, p99 and the longest in milliseconds, of recent delays."""
    if not seconds:
        return {"count": 0}
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        "count": len(ordered),
        "p50": ordered[last // 2] * 1000,
        "p99": ordered[last * 99 // 100] * 1000,
        "max": ordered[-1] * 1000,
    }
