"""The half of the agent that watches: metrics, access log, export, and the switches for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kmesh import __version__
from kmesh.core.accesslog import Form
from kmesh.core.istio import TrafficSeries
from kmesh.core.plain import plain
from kmesh.core.switches import Held, Settings
from kmesh.tasks.accesslog import Descriptor, LogWriter, RotatingFile
from kmesh.tasks.collect import one
from kmesh.tasks.collect_logs import log_metrics, otlp_metrics, switch_metrics
from kmesh.tasks.collector import Collector
from kmesh.tasks.entries import Entries
from kmesh.tasks.lines import LineMaker
from kmesh.tasks.listener import Listener
from kmesh.tasks.metrics import MetricsServer
from kmesh.tasks.otlp import Otlp
from kmesh.tasks.probes import Probes
from kmesh.tasks.switches import Switchboard
from kmesh.tasks.telemetry import Telemetry

if TYPE_CHECKING:
    import anyio.abc

    from kmesh.config import Config
    from kmesh.core.events import Json
    from kmesh.core.labels import Labels
    from kmesh.tasks.collect import Sources
    from kmesh.tasks.state_file import StateFile


class Watch:
    """Made from the parts that it watches; ``sources.more`` may get further parts later."""

    def __init__(self, config: Config, sources: Sources, labels: Labels, kept: StateFile) -> None:
        self.sources = sources
        self.series = TrafficSeries(config.max_series, config.upstream_metric_names)
        self.switches = Switchboard(sources.plane, sources.writer, settings(config), kept)
        self.collector = Collector(sources.parts, sources.writer)
        self.log = LogWriter(_sinks(config))
        self.otlp = self._otlp(config)
        where = config.metrics_address
        self.metrics = None if where is None else MetricsServer(where, self.collector)
        self.probes = None
        if config.probe_address is not None:
            asked = Probes(sources.writer, sources.session, sources.xds)
            self.probes = Listener("probes", config.probe_address, asked.routes())
        form = Form(json=config.access_log_format == "json")
        self.lines = LineMaker(Entries(labels), form, self.log.put)
        logs = () if self.otlp is None else (self.otlp.put_logs,)
        spans = None if self.otlp is None else self.otlp.put_spans
        self.telemetry = Telemetry(labels, self.series, self.lines, logs, spans, self._ready)
        self.switches.subscribe(self.telemetry.switched)
        self.switches.subscribe(lambda now: sources.run_time.switch(now.profiling))
        sources.traffic.subscribe(self.telemetry.count)
        sources.denials.subscribe(self.telemetry.take)
        sources.more["connections"] = self.series.metrics
        sources.more["telemetry"] = lambda: [one("kmesh_telemetry_waiting", self.telemetry.waiting)]
        sources.more["access log"] = lambda: log_metrics(self.log)
        sources.more["switches"] = lambda: switch_metrics(self.switches)

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Start everything in the agent's task group."""
        keep = self.sources.supervisor.keep
        self.log.start()
        tasks.start_soon(self.telemetry.run)
        tasks.start_soon(keep, "fill", self.sources.filler.run)
        if self.otlp is not None:
            self.switches.hold("otlp", Held.ALL)
            tasks.start_soon(keep, "otlp", self.otlp.run)
        if self.probes is not None:
            tasks.start_soon(keep, "probes", self.probes.run)
        if self.metrics is not None:
            tasks.start_soon(keep, "metrics", self.metrics.run)

    def stop(self) -> None:
        """Write what is left of the access log; the kernel measures run times no more."""
        self.telemetry.flush()
        self.log.stop()
        self.sources.run_time.switch(False)

    def state(self) -> dict[str, Json]:
        """For GET /state."""
        found: dict[str, Json] = {
            "switches": plain(self.switches.settings),
            "access_log": plain(self.log.statistics()),
            "series": {
                name: plain(table.statistics()) for name, table in self.series.tables.items()
            },
            "metrics": None,
            "otlp": None,
        }
        if self.metrics is not None:
            found["metrics"] = plain(self.metrics.statistics())
        if self.otlp is not None:
            found["otlp"] = plain(self.otlp.statistics())
        return found

    def _ready(self) -> bool:
        """Whether the mesh is known, so that everybody has a name."""
        return self.sources.writer.steering.started and self.sources.session.synced

    def _otlp(self, config: Config) -> Otlp | None:
        if not config.otlp_endpoint:
            return None
        who = {"service.name": "kmesh", "service.version": __version__}
        who |= {"k8s.node.name": config.node_name, "k8s.cluster.name": config.cluster_id}
        otlp = Otlp(config.otlp_endpoint, self.collector, who, config.otlp_interval)
        self.sources.more["otlp"] = lambda: otlp_metrics(otlp)
        return otlp


def settings(config: Config) -> Settings:
    """How the options want the switches."""
    return Settings(
        metrics=config.monitoring,
        access_log=config.access_log,
        steps=config.access_log_steps,
        sample=config.access_log_sample,
        early_refusal=config.early_refusal,
        profiling=config.profiling,
        avoid=config.avoid or 0.0,
    )


def _sinks(config: Config) -> list[Descriptor | RotatingFile]:
    sinks: list[Descriptor | RotatingFile] = [Descriptor()] if config.access_log_stdout else []
    if config.access_log_file:
        path, size = Path(config.access_log_file), config.access_log_file_size
        sinks.append(RotatingFile(path, size, config.access_log_files))
    return sinks
