"""The numbers of logs, exports, switches and audits as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.core.switches import LEVELS
from kmesh.tasks.collect import many, one
from kmesh.tasks.state_file import ABSENT, DAMAGED, OTHER, READ

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kmesh.bpf.load import DataPlane
    from kmesh.core.exposition import Metric
    from kmesh.tasks.accesslog import LogWriter
    from kmesh.tasks.audit import Auditor
    from kmesh.tasks.avoid import AvoidList
    from kmesh.tasks.bpflog import BpfLogStatistics
    from kmesh.tasks.dead_man import DeadMan
    from kmesh.tasks.drain import Drainer
    from kmesh.tasks.events import Events
    from kmesh.tasks.gate import GateStatistics
    from kmesh.tasks.otlp import Otlp
    from kmesh.tasks.state_file import StateFile
    from kmesh.tasks.switches import Switchboard


def log_metrics(log: LogWriter) -> Iterator[Metric]:
    """What became of the access log's lines."""
    found = log.statistics()
    yield one("kmesh_access_log_lines", found.written)
    yield one("kmesh_access_log_dropped", found.dropped)
    yield one("kmesh_access_log_failed", found.failed)
    yield one("kmesh_access_log_waiting", found.waiting)
    yield one("kmesh_access_log_rotations", found.rotated)


def event_metrics(events: Events) -> Iterator[Metric]:
    """Readers of live events."""
    for name, value in events.statistics()._asdict().items():
        yield one(f"kmesh_events_{name}", value)


def avoid_metrics(avoided: AvoidList) -> Iterator[Metric]:
    """Endpoints that are avoided now; picks that were moved are exits of the programs."""
    yield one("kmesh_avoided_endpoints", len(avoided.now()))


def drain_metrics(drainer: Drainer) -> Iterator[Metric]:
    """Removed endpoints; sockets that programs ended are exits of these."""
    found = drainer.statistics()
    yield one("kmesh_drain_waiting", found.waiting)
    yield one("kmesh_drain_addresses", found.addresses)
    yield one("kmesh_drain_failures", found.failures)


def switch_metrics(switches: Switchboard) -> Iterator[Metric]:
    """Switches that are on or off."""
    settings = switches.settings._asdict().items()
    rows = (((name,), int(on)) for name, on in settings if isinstance(on, bool))
    yield many("kmesh_switch", rows)


def gate_metrics(gates: Mapping[str, GateStatistics]) -> Iterator[Metric]:
    """The listeners by name: who came, and who was turned away."""
    yield many("kmesh_admin_connections", (((name,), each.open) for name, each in gates.items()))
    yield many("kmesh_admin_accepted", (((name,), each.accepted) for name, each in gates.items()))
    turned = (
        ((name, reason), count)
        for name, each in gates.items()
        for reason, count in each.turned.items()
    )
    yield many("kmesh_admin_turned_away", turned)


def force_metrics(plane: DataPlane, dead_man: DeadMan) -> Iterator[Metric]:
    """Whether this build's programs are in force, and whether they have let go."""
    yield one("kmesh_waiting_families", len(plane.waits))
    yield one("kmesh_dead_man_let_go", int(dead_man.state().let_go))


def state_file_metrics(kept: StateFile) -> Iterator[Metric]:
    """What was found in the state file, and how often it was written."""
    found = kept.statistics()
    rows = (((each,), int(found.found == each)) for each in (ABSENT, READ, OTHER, DAMAGED))
    yield many("kmesh_state_file", rows)
    yield one("kmesh_state_file_written", found.written)
    yield one("kmesh_state_file_failed", found.failed)


def otlp_metrics(otlp: Otlp) -> Iterator[Metric]:
    """What became of exports."""
    found = otlp.statistics()
    yield many("kmesh_otlp_sent", (((signal,), n) for signal, n in found.sent.items()))
    yield many("kmesh_otlp_failed", (((signal,), n) for signal, n in found.failed.items()))
    yield many("kmesh_otlp_dropped", (((signal,), n) for signal, n in found.dropped.items()))
    yield many("kmesh_otlp_waiting", (((signal,), n) for signal, n in found.waiting.items()))


def bpf_log_metrics(found: BpfLogStatistics) -> Iterator[Metric]:
    """The programs' own log."""
    rows = (((each,), found.lines.get(each, 0)) for each in LEVELS)
    yield many("kmesh_log_lines", rows)
    yield one("kmesh_log_lost", found.lost)
    yield one("kmesh_log_unwritten", found.unwritten)


def audit_metrics(auditor: Auditor) -> Iterator[Metric]:
    """What audits found, and each pod's proof."""
    found = auditor.statistics()
    yield one("kmesh_audits", found.rounds)
    yield one("kmesh_audit_seconds", found.seconds)
    yield one("kmesh_audit_rows", found.rows)
    yield many("kmesh_audit_differences", found.differences.items())
    yield one("kmesh_audit_exceptions", len(found.exceptions))
    yield one("kmesh_links_mended", found.mended)
    yield one("kmesh_pods_buried", found.removed)
    named = [(_pod(pod.uid), str(pod.cookie), pod) for pod in auditor.proofs]
    steps = ("intended", "attached", "keyed", "alive")
    proof = (
        ((*who, netns, step), int(getattr(pod, step) is not False))
        for who, netns, pod in named
        for step in steps
    )
    yield many("kmesh_pod_proof", proof)
    seen = (((*who, netns), pod.connections) for who, netns, pod in named)
    yield many("kmesh_pod_connections", seen)


def _pod(uid: str) -> tuple[str, str]:
    """(namespace, name) of a workload's uid."""
    *_, namespace, name = ("", "", *uid.split("/"))
    return namespace, name
