"""The numbers of logs, exports and switches as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.core.switches import LEVELS
from kmesh.tasks.collect import many, one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.core.exposition import Metric
    from kmesh.tasks.accesslog import LogWriter
    from kmesh.tasks.avoid import AvoidList
    from kmesh.tasks.bpflog import BpfLogStatistics
    from kmesh.tasks.events import Events
    from kmesh.tasks.otlp import Otlp
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


def switch_metrics(switches: Switchboard) -> Iterator[Metric]:
    """Switches that are on or off."""
    settings = switches.settings._asdict().items()
    rows = (((name,), int(on)) for name, on in settings if isinstance(on, bool))
    yield many("kmesh_switch", rows)


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
