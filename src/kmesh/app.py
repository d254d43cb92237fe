"""The process on one page: queues, tasks, start order, stop order.

Start: load and adopt (nothing is attached unless everything loads), the writer, the pod server,
then the stream. Stop (TERM, INT): the stream and the servers, then the writer after its batch in
flight. Pins stay: programs and maps go on without us.
"""

from __future__ import annotations

import gc
import logging
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from kmesh import __version__
from kmesh.abi.layout import Reason
from kmesh.bpf import load
from kmesh.bpf.sizes import Sizes
from kmesh.bpf.tables import KernelTables
from kmesh.core.bpflog import Names
from kmesh.core.commands import ROW, Op, Phase
from kmesh.core.delta import Session
from kmesh.core.drain import Draining
from kmesh.core.events import ADDRESS
from kmesh.core.guard_status import GuardLimits
from kmesh.core.guard_why import forbids
from kmesh.core.labels import Labels
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from kmesh.errors import KmeshError
from kmesh.state import capacity, cpu_seconds, describe, plain
from kmesh.tasks import admin, garbage
from kmesh.tasks.admin_context import Context
from kmesh.tasks.audit import Auditor
from kmesh.tasks.avoid import AvoidList
from kmesh.tasks.bpflog import BpfLog
from kmesh.tasks.collect import Sources
from kmesh.tasks.collect_logs import (
    audit_metrics,
    avoid_metrics,
    bpf_log_metrics,
    drain_metrics,
    event_metrics,
    force_metrics,
    gate_metrics,
    state_file_metrics,
)
from kmesh.tasks.dead_man import DeadMan
from kmesh.tasks.drain import Drainer
from kmesh.tasks.ender import Ender
from kmesh.tasks.events import Events
from kmesh.tasks.evict import Evictor
from kmesh.tasks.fill import Filler
from kmesh.tasks.lag import Lag
from kmesh.tasks.listener import Listener
from kmesh.tasks.places import Places
from kmesh.tasks.pods import PodServer
from kmesh.tasks.profile import RunTime
from kmesh.tasks.ring import RingReader
from kmesh.tasks.state_file import StateFile
from kmesh.tasks.supervisor import Supervisor
from kmesh.tasks.traffic import TrafficTask
from kmesh.tasks.writer import Writer
from kmesh.tasks.xds import XdsClient
from kmesh.watch import Watch
from kmesh.wire.discovery import Decoder, ResponseReader
from kmesh.wire.held import HeldMesh
from kmesh.wire.mesh import Mesh
from kmesh.wire.names import NameReader
from kmesh.wire.parts import Parts

if TYPE_CHECKING:
    from aiohttp import web

    from kmesh.bpf.sockets import Found
    from kmesh.config import Config
    from kmesh.core.events import Applied, Json
    from kmesh.core.roster import Roster
    from kmesh.tasks.gate import GateStatistics

log = logging.getLogger(__name__)


class App:
    """Everything one agent has; made before the loop does anything."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.plane = load.start(config.bpf_fs_path, config.cgroup2_path, sizes(config))
        self.tables = KernelTables(self.plane)
        self.mesh = Mesh(Parts(), config.node_name, config.cluster_id)
        self.steering = steering(config, self.tables, self.mesh)
        self.session = Session(
            config.node(),
            max_request_bytes=config.xds_max_request,
            held={ADDRESS: HeldMesh(self.mesh)},
        )
        self.writer = Writer(self.tables, self.steering, self._applied)
        self.evictor = Evictor(config.evict, self._ender(), self._forbids)
        draining = Draining(config.drain, config.drain_namespaces)
        self.drainer = Drainer(draining, self.plane, self.writer, self._ender())
        if config.drain is not None:
            self.steering.tell_left(self.drainer.left)
        self.steering.guards.changed = self.evictor.changed
        self.denials = RingReader(self.plane, self.steering)
        self.traffic = TrafficTask(self.plane, config.report_interval)
        self.places = Places(self.plane, self.writer, config.authz_hook)
        self.auditor = Auditor(self.plane, self.tables, self.writer, config.audit_interval)
        self.traffic.subscribe(self.auditor.count)
        self.lag = Lag()
        self._synced = anyio.Event()
        self._start_cpu = cpu_seconds()
        self.supervisor = Supervisor()
        self.xds = self._client(config)
        limits = {"km_vip": config.max_vips, "km_slot": config.max_slots}
        limits["km_row"] = config.max_policy_words
        self.filler = Filler(self.plane, self.writer, limits, self._planned, self.traffic.made)
        reader = NameReader(self.session.held(ADDRESS))
        self.labels = Labels(self.steering, reader.workload, reader.service)
        names = Names(self.labels.uid, self.labels.service_key, self.steering.guards.names.name)
        self.bpf_log = BpfLog(self.plane, names)
        self.events = Events(
            self.denials, self.labels, lambda what: self.watch.switches.hold("events", what)
        )
        self.kept = StateFile(Path(config.run_dir) / "state")
        self._keep_paths()
        self.watch = Watch(config, self._sources(), self.labels, self.kept)
        self.watch.sources.more["state file"] = lambda: state_file_metrics(self.kept)
        avoided = AvoidList(self.plane, self.labels)
        self.watch.sources.more["avoided"] = lambda: avoid_metrics(avoided)
        self.watch.sources.more["drain"] = lambda: drain_metrics(self.drainer)
        self.dead_man = DeadMan(config.dead_man, self.watch.switches, self._until_synced)
        self.watch.sources.more["dead man"] = lambda: force_metrics(self.plane, self.dead_man)
        self.watch.sources.more["events"] = lambda: event_metrics(self.events)
        self.watch.sources.more["bpf log"] = lambda: bpf_log_metrics(self.bpf_log.statistics())
        self.watch.sources.more["audit"] = lambda: audit_metrics(self.auditor)
        found = admin.routes(self._context(limits))
        self.pods = PodServer(Path(config.run_dir) / "kmesh.sock", self.writer, self.state, found)
        self.admin = self._admin(config, [*found, *self.pods.shared()])
        self.watch.sources.more["listeners"] = lambda: gate_metrics(self._gates())

    def _ender(self) -> Ender:
        return Ender(self.plane.iterate, self.plane.sockets)

    def _planned(self) -> dict[str, int]:
        """Entries in use of the tables that are arrays."""
        found = self.steering.statistics(), self.steering.guards.statistics()
        return {"km_slot": found[0].segments.used, "km_row": found[1].row_words}

    def _sources(self) -> Sources:
        return Sources(
            plane=self.plane,
            tables=self.tables,
            session=self.session,
            writer=self.writer,
            lag=self.lag,
            supervisor=self.supervisor,
            xds=self.xds,
            evictor=self.evictor,
            denials=self.denials,
            filler=self.filler,
            run_time=RunTime(),
            traffic=self.traffic,
        )

    def _context(self, limits: dict[str, int]) -> Context:
        return Context(
            config=self.config,
            plane=self.plane,
            tables=self.tables,
            session=self.session,
            writer=self.writer,
            steering=self.steering,
            xds=self.xds,
            supervisor=self.supervisor,
            lag=self.lag,
            denials=self.denials,
            evictor=self.evictor,
            filler=self.filler,
            state=self.state,
            limits=limits,
            traffic=self.traffic,
            labels=self.labels,
            events=self.events,
            metrics=self.watch.metrics,
            accesslog=self.watch.log,
            switches=self.watch.switches,
            audit=self.auditor,
        )

    def _admin(self, config: Config, found: list[web.RouteDef]) -> Listener | None:
        if config.admin_address is None:
            return None
        return Listener("admin API", config.admin_address, found, admin.LIMITS)

    def _gates(self) -> dict[str, GateStatistics]:
        metrics = self.watch.metrics
        found = {
            "socket": self.pods.gate,
            "admin": self.admin,
            "metrics": None if metrics is None else metrics.listener,
            "probes": self.watch.probes,
        }
        return {name: each.statistics() for name, each in found.items() if each is not None}

    def _client(self, config: Config) -> XdsClient | None:
        options, decoder = config.xds(), Decoder(self.mesh)
        if options is None:
            return None
        return XdsClient(
            options,
            self.session,
            lambda: ResponseReader(decoder),
            self.writer.offer,
            self.writer.commit,
        )

    async def run(self) -> None:
        """Serve until TERM or INT."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.writer.run)
                tasks.start_soon(self.lag.run)
                tasks.start_soon(self.supervisor.keep, "evict", self.evictor.run)
                tasks.start_soon(self.supervisor.keep, "drain", self.drainer.run)
                tasks.start_soon(self.supervisor.keep, "places", self.places.run)
                tasks.start_soon(self.supervisor.keep, "traffic", self.traffic.run)
                tasks.start_soon(self.supervisor.keep, "audit", self.auditor.run)
                tasks.start_soon(self.denials.run)
                tasks.start_soon(self.bpf_log.run)
                tasks.start_soon(garbage.run, self._synced, lambda: self.writer.ops)
                await tasks.start(self.pods.run)
                tasks.start_soon(self.supervisor.keep, "state_file", self.kept.run)
                tasks.start_soon(self.supervisor.keep, "dead_man", self.dead_man.run)
                self.watch.start(tasks)
                if self.admin is not None:
                    tasks.start_soon(self.supervisor.keep, "admin", self.admin.run)
                if self.xds is not None:
                    tasks.start_soon(self.supervisor.keep, "xds", self.xds.run)
                log.info("ready: %s", self.pods.path)
                await stop_signal()
                log.info("stopping; programs and maps stay pinned below %s", self.plane.root)
                tasks.cancel_scope.cancel()
        finally:
            self.watch.stop()
            self.plane.close()

    def state(self) -> dict[str, Json]:
        """What GET /state shows."""
        found = describe(
            __version__,
            self.session,
            self.writer,
            self.tables,
            self.lag,
            self.supervisor,
            self.xds,
            self.evictor,
            self.denials,
            self.places,
            self._start_cpu,
        )
        more = {
            "waits": list(self.plane.waits),
            "drain": plain(self.drainer.statistics()),
            "state_file": plain(self.kept.statistics()),
            "dead_man": plain(self.dead_man.state()),
            "events": plain(self.events.statistics()),
            "ring": plain(self.denials.statistics()),
            "bpf_log": plain(self.bpf_log.statistics()),
            "capacity": capacity(self.filler.statistics().maps),
            "observability": self.watch.state(),
            "audit": self.auditor.state(),
        }
        return {**found, **more}

    def _keep_paths(self) -> None:
        """Where namespaces of enrolled pods are; those that the maps do not know are not used."""
        paths, found = self.plane.guards.paths, self.kept.parts.get("netns")
        known = {str(cookie): cookie for cookie in self.steering.pods.wanted}
        for name, path in found.items() if isinstance(found, dict) else ():
            if name in known and isinstance(path, str):
                paths[known[name]] = path
        self.kept.keep("netns", lambda: {str(cookie): path for cookie, path in paths.items()})

    async def _until_synced(self) -> None:
        if self.xds is not None:
            await self._synced.wait()

    def _forbids(self, found: Found) -> bool:
        return forbids(self.steering, found.remote, found.local, found.local_port)

    def _applied(self, applied: Applied) -> None:
        self.watch.lines.forget()
        if self.xds is not None:
            self.xds.applied(applied)
        if self.session.synced:
            self._synced.set()
            if self.plane.waits:
                self.plane.switch()
                log.warning("the tables are filled: the programs of this build are in force")


def sizes(config: Config) -> Sizes:
    """Table sizes from the configuration."""
    first = Sizes()
    return Sizes(
        vips=min(first.vips, config.max_vips),
        slots=min(first.slots, config.max_slots),
        cidrs=config.max_cidrs,
        pods=config.max_pods,
        flows=config.udp_flows,
        max_vips=config.max_vips,
        max_slots=config.max_slots,
        guards=2 * config.max_pods,
        rows=min(first.rows, config.max_policy_words),
        max_rows=config.max_policy_words,
        matches=config.max_policy_values,
        peers=config.max_peers,
        policies=config.max_policies,
        traffic=config.max_traffic,
        avoid=config.max_avoided,
        events=config.ring_size,
        logs=config.log_ring_size,
    )


def steering(config: Config, tables: KernelTables, roster: Roster) -> Steering:
    """The writer's brain, with everything the kernel holds adopted and the knobs written."""
    vips, slots = tables.capacity()
    store = Store(config.network, config.cluster_id, config.node_name, roster)
    open_reasons = sum(1 << Reason[name.upper().replace("-", "_")] for name in config.fail_open)
    found = Steering(
        store,
        Segments(slots, config.segment_rest),
        vips,
        open_reasons,
        bypass_waypoints="waypoint" in config.fail_open,
        rows=Segments(tables.row_capacity(), config.segment_rest, ROW),
        exempt=config.exempt_cidrs,
        limits=GuardLimits(config.max_policy_values, config.max_peers, config.max_policies),
    )
    found.adopt(tables.scan(), tables.scan_guards())
    planner = found.planner
    outcome = tables.apply([Op(Phase.CIDRS_ON, planner.config(planner.cidrs_on), None)])
    if outcome.error is not None:
        raise outcome.error
    return found


async def stop_signal() -> None:
    """Return at the first TERM or INT."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("signal %s", signal.Signals(number).name)
            return


def serve(config: Config) -> None:
    """Run the agent; raises KmeshError when it cannot start."""
    app = App(config)
    gc.collect()  # what the imports left takes 40 ms: before the loop runs
    gc.freeze()
    try:
        with suppress(KeyboardInterrupt):
            anyio.run(app.run, backend_options={"use_uvloop": True})
    except ExceptionGroup as group:
        known, rest = group.split(KmeshError)
        if known is None or rest is not None:
            raise
        raise first(known) from group


def first(group: BaseExceptionGroup[KmeshError]) -> KmeshError:
    """The first error of a group of groups."""
    error = group.exceptions[0]
    return first(error) if isinstance(error, BaseExceptionGroup) else error
