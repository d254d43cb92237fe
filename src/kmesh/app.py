"""The parts of one agent and what they know of each other, on one page; ``serve`` runs them.

Nothing is attached unless everything loads.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from kmesh import __version__
from kmesh.bpf import load
from kmesh.bpf.tables import KernelTables
from kmesh.core.bpflog import Names
from kmesh.core.delta import Session
from kmesh.core.drain import Draining
from kmesh.core.events import ADDRESS, Request
from kmesh.core.guard_why import forbids
from kmesh.core.labels import Labels
from kmesh.core.plain import plain
from kmesh.planning import sizes, steering
from kmesh.state import capacity, cpu_seconds, describe
from kmesh.tasks import admin
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
from kmesh.wire.request import encode_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp import web

    from kmesh.bpf.sockets import Found
    from kmesh.config import Config
    from kmesh.core.events import Applied, Json
    from kmesh.core.exposition import Metric
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
        self.steering.guards.changed = self.evictor.changed
        self.drainer = self._drainer(config)
        self.denials = RingReader(self.plane, self.steering)
        self.traffic = TrafficTask(self.plane, config.report_interval)
        self.places = Places(self.plane, self.writer, config.authz_hook)
        self.auditor = Auditor(self.plane, self.tables, self.writer, config.audit_interval)
        self.traffic.subscribe(self.auditor.count)
        self.lag = Lag()
        self.synced = anyio.Event()
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
        self.dead_man = DeadMan(config.dead_man, self.watch.switches, self._until_synced)
        found = admin.routes(self._context(limits))
        self.pods = PodServer(Path(config.run_dir) / "kmesh.sock", self.writer, self.state, found)
        self.admin = self._admin(config, [*found, *self.pods.shared()])
        self.watch.sources.more |= self._metrics()

    def _drainer(self, config: Config) -> Drainer:
        draining = Draining(config.drain, config.drain_namespaces)
        drainer = Drainer(draining, self.plane, self.writer, self._ender())
        if config.drain is not None:
            self.steering.tell_left(drainer.left)
        return drainer

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

    def _metrics(self) -> dict[str, Callable[[], Iterable[Metric]]]:
        """Of parts that Sources does not name."""
        avoided = AvoidList(self.plane, self.labels)
        return {
            "state file": lambda: state_file_metrics(self.kept),
            "avoided": lambda: avoid_metrics(avoided),
            "drain": lambda: drain_metrics(self.drainer),
            "dead man": lambda: force_metrics(self.plane, self.dead_man),
            "events": lambda: event_metrics(self.events),
            "bpf log": lambda: bpf_log_metrics(self.bpf_log.statistics()),
            "audit": lambda: audit_metrics(self.auditor),
            "listeners": lambda: gate_metrics(self._gates()),
        }

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
        encode_request(Request(ADDRESS, config.node()))  # its first takes 5 ms: not in the loop
        return XdsClient(
            options,
            self.session,
            lambda: ResponseReader(decoder),
            self.writer.offer,
            self.writer.commit,
        )

    def state(self) -> dict[str, Json]:
        """What GET /state shows."""
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
        found = describe(__version__, self.watch.sources, self.places, self._start_cpu)
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
            await self.synced.wait()

    def _forbids(self, found: Found) -> bool:
        return forbids(self.steering, found.remote, found.local, found.local_port)

    def _applied(self, applied: Applied) -> None:
        self.watch.lines.forget()
        if self.xds is not None:
            self.xds.applied(applied)
        if self.session.synced:
            self.synced.set()
            if self.plane.waits:
                self.plane.switch()
                log.warning("the tables are filled: the programs of this build are in force")
