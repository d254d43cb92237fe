"""The agent's own numbers as metrics: one function per part, none of which awaits."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh import __version__
from kmesh.bpf import lib
from kmesh.core.catalogue import FAMILIES
from kmesh.core.exposition import Metric, Sample, label_text
from kmesh.tasks.credentials import root_expiry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from kmesh.bpf.load import DataPlane
    from kmesh.bpf.tables import KernelTables
    from kmesh.core.delta import Session
    from kmesh.tasks.evict import Evictor
    from kmesh.tasks.fill import Filler
    from kmesh.tasks.lag import Lag
    from kmesh.tasks.profile import RunTime
    from kmesh.tasks.ring import RingReader
    from kmesh.tasks.supervisor import Supervisor
    from kmesh.tasks.traffic import TrafficTask
    from kmesh.tasks.writer import Writer
    from kmesh.tasks.xds import XdsClient

# ztunnel's words for the ends of a stream.
TERMINATIONS = {
    "ended": "Complete",
    "connect": "ConnectionError",
    "connect-timeout": "ConnectionError",
    "dns": "ConnectionError",
    "tls": "ConnectionError",
    "credentials": "ConnectionError",
    "lost": "Reconnect",
    "goaway": "Reconnect",
    "reset": "Reconnect",
    "keepalive": "Reconnect",
}


@dataclass(kw_only=True)
class Sources:
    """What is asked. ``more`` are parts by name that come after these."""

    plane: DataPlane
    tables: KernelTables
    session: Session
    writer: Writer
    lag: Lag
    supervisor: Supervisor
    xds: XdsClient | None
    evictor: Evictor
    denials: RingReader
    filler: Filler
    run_time: RunTime
    traffic: TrafficTask
    more: dict[str, Callable[[], Iterable[Metric]]] = field(default_factory=dict)

    def parts(self) -> dict[str, Callable[[], Iterable[Metric]]]:
        """Every part by the name under which its failures are counted."""
        return {
            "process": process,
            "loop": lambda: loop(self.lag, self.supervisor),
            "xds": lambda: xds(self.xds, self.session) if self.xds else (),
            "writer": lambda: writer(self.writer),
            "mesh": lambda: mesh(self.writer, self.session),
            "kernel": lambda: kernel(self.plane, self.tables, self.filler, self.run_time),
            "authorization": lambda: authorization(self.writer, self.tables, self.evictor),
            "ring": lambda: records(self.denials, self.traffic),
            **self.more,
        }


def one(name: str, value: float, *labels: str) -> Metric:
    """A family with one sample."""
    family = FAMILIES[name]
    return Metric(family, (Sample(label_text(family.labels, labels), value),))


def many(name: str, rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    """A family with a sample for each (label values, value)."""
    family = FAMILIES[name]
    return Metric(family, [Sample(label_text(family.labels, key), value) for key, value in rows])


def process() -> Iterator[Metric]:
    """Build and process; names and meanings of Prometheus' process collector."""
    yield one("kmesh_build", 1, __version__, platform.python_version(), platform.release())
    yield one("istio_build", 1, "kmesh", __version__)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield one("process_cpu_seconds", usage.ru_utime + usage.ru_stime)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    yield one("process_resident_memory_bytes", pages * os.sysconf("SC_PAGE_SIZE"))
    yield one("process_open_fds", len(os.listdir("/proc/self/fd")))
    yield one("process_max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield one("process_start_time_seconds", START)


def _start_time() -> float:
    """Start of this process since the epoch: now, less its age by the boot clock."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - age


START = _start_time()


def loop(lag: Lag, supervisor: Supervisor) -> Iterator[Metric]:
    """The event loop and its tasks."""
    found = lag.statistics("metrics")
    yield one("kmesh_loop_stall_seconds", found.recent)
    yield one("kmesh_loop_stall_cpu_seconds", found.recent_cpu)
    yield one("kmesh_loop_stalls", found.over_10ms)
    restarts = supervisor.restarts.items()
    yield many("kmesh_task_restarts", (((task,), count) for task, count in restarts))


def xds(client: XdsClient, session: Session) -> Iterator[Metric]:
    """The stream to the control plane; ``session`` has what is held."""
    found = client.statistics()
    yield one("kmesh_xds_connected", int(found.connected))
    yield one("kmesh_xds_attempts", found.attempts)
    yield one("kmesh_xds_last_message_timestamp_seconds", found.last_message)
    yield one("kmesh_xds_last_heard_timestamp_seconds", found.last_heard)
    both = (("received",), found.messages_in), (("sent",), found.messages_out)
    yield many("kmesh_xds_messages", both)
    yield many("kmesh_xds_bytes", ((("received",), found.bytes_in), (("sent",), found.bytes_out)))
    yield one("kmesh_xds_late", found.late)
    yield one("kmesh_xds_unknown_resources", session.unknown_resources)
    for name in ("held", "responses", "resources", "removed", "rejected", "nacks"):
        rows = found.types.items()
        yield many(f"kmesh_xds_{name}", (((short(url),), getattr(of, name)) for url, of in rows))
    ends = Counter[str]()
    for reason, count in found.ends.items():
        ends[TERMINATIONS.get(reason, "Error")] += count
    terminations = (((reason,), count) for reason, count in ends.items())
    yield many("istio_xds_connection_terminations", terminations)
    types = found.types.items()
    yield many("istio_xds_message", (((url,), of.responses) for url, of in types))
    yield many("istio_xds_message_bytes", (((url,), of.bytes) for url, of in types))
    expiry = root_expiry(client.options)
    if expiry is not None:
        yield one("kmesh_xds_root_certificate_expiry_timestamp_seconds", expiry)


def short(url: str) -> str:
    """``Address`` of ``type.googleapis.com/istio.workload.Address``."""
    return url.rpartition(".")[2]


def writer(writer: Writer) -> Iterator[Metric]:
    """The writer and what waits for it."""
    found, box = writer.statistics(), writer.mailbox.statistics()
    yield one("kmesh_writer_revision", found.revision)
    yield one("kmesh_writer_operations", found.ops)
    yield one("kmesh_writer_batches", found.batches)
    yield one("kmesh_writer_failures", found.failures)
    yield one("kmesh_writer_refused", found.refused)
    yield one("kmesh_writer_grown", found.grown)
    yield one("kmesh_writer_questions", found.questions)
    yield one("kmesh_writer_responses", found.responses)
    yield Metric(FAMILIES["kmesh_config_visible_seconds"], writer.visible.samples())
    yield one("kmesh_mailbox_pending", box.pending)
    yield one("kmesh_mailbox_most", box.most)
    yield one("kmesh_mailbox_put", box.put)
    yield one("kmesh_mailbox_replaced", box.replaced)


def mesh(writer: Writer, session: Session) -> Iterator[Metric]:
    """What the mesh looks like, and how much of it is in the kernel."""
    steering = writer.steering
    found = steering.statistics()
    idle = steering.idle() and not writer.mailbox
    wanted = len(steering.pods.wanted)
    yield one("kmesh_synced", int(found.started and session.synced and idle))
    yield one("kmesh_workloads", found.workloads)
    yield one("kmesh_services", found.services)
    yield one("kmesh_dirty", found.dirty)
    yield one("kmesh_failing", found.failing)
    yield one("kmesh_views", found.views)
    yield one("kmesh_address_conflicts", found.conflicts)
    yield one("kmesh_pods_wanted", wanted)
    yield one("kmesh_pods_enrolled", found.pods)
    yield one("kmesh_slots_resting", found.segments.resting)
    yield one("workload_manager_active_proxy_count", found.pods)
    yield one("workload_manager_pending_proxy_count", max(wanted - found.pods, 0))


def kernel(
    plane: DataPlane, tables: KernelTables, filler: Filler, run_time: RunTime
) -> Iterator[Metric]:
    """Programs and maps, as the kernel counts them."""
    reasons = tables.reasons().items()
    rows = (((hook.name.lower(), reason.name.lower()), n) for (hook, reason), n in reasons)
    yield many("kmesh_program_exits", rows)
    fills = filler.statistics().maps
    yield many("kmesh_map_entries", (((name,), fill.entries) for name, fill in fills.items()))
    yield many("kmesh_map_capacity", (((name,), fill.capacity) for name, fill in fills.items()))
    yield many("kmesh_map_limit", (((name,), fill.limit) for name, fill in fills.items()))
    yield many("kmesh_map_full_in_seconds", (((name,), f.full_in) for name, f in fills.items()))
    evicted = filler.statistics().evicted.items()
    yield many("kmesh_map_evicted", (((name,), count) for name, count in evicted))
    yield one("kmesh_program_run_time_measured", int(run_time.on))
    times = {name: lib.run_time(fd) for name, fd in plane.programs.items()}
    yield many(
        "kmesh_program_run_seconds", (((name,), ns / 1e9) for name, (ns, _) in times.items())
    )
    yield many("kmesh_program_runs", (((name,), runs) for name, (_, runs) in times.items()))


def authorization(writer: Writer, tables: KernelTables, evictor: Evictor) -> Iterator[Metric]:
    """Policies, guarded pods and verdicts."""
    guards = writer.steering.guards
    found, looks = guards.statistics(), evictor.statistics()
    yield one("kmesh_authorization_policies", found.policies)
    yield one("kmesh_authorization_sets", found.sets)
    yield one("kmesh_authorization_identities", found.identities)
    pods = Counter((pod.mode.name, pod.reason.name) for pod in guards.records.pods.values())
    states = (((mode.lower(), why.lower()), count) for (mode, why), count in pods.items())
    yield many("kmesh_authorization_pods", states)
    yield Metric(
        FAMILIES["kmesh_authorization_verdicts"], _verdicts(tables, guards.names.policies())
    )
    yield one("kmesh_eviction_looks", looks.looks)
    yield one("kmesh_eviction_failures", looks.failures)
    yield one("kmesh_eviction_waiting", looks.waiting)


def _verdicts(tables: KernelTables, names: Mapping[int, str]) -> Iterator[Sample]:
    labels = FAMILIES["kmesh_authorization_verdicts"].labels
    for (policy, verdict), count in tables.verdicts().items():
        yield Sample(label_text(labels, (names.get(policy, ""), verdict.name.lower())), count)


def records(ring: RingReader, traffic: TrafficTask) -> Iterator[Metric]:
    """What comes from the kernel about connections, and what of it was lost."""
    read, found = ring.statistics(), traffic.statistics()
    yield one("kmesh_ring_records", read.records)
    yield one("kmesh_ring_lost", read.lost)
    yield one("kmesh_sweeps", found.sweeps)
    yield one("kmesh_sweep_failures", found.failures)
    yield one("kmesh_traffic_rows_evicted", found.evicted)
    yield one("kmesh_connections_unseen", found.unseen)
    yield one("kmesh_connections_crowded", found.crowded)
