"""Our metrics, log lines and connections in the OpenTelemetry SDK's words. Imported only when
something is exported: the SDK costs 15 MB."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from kmesh import __version__
from kmesh.core.accesslog import SCOPE, fields
from kmesh.core.exposition import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kmesh.core.accesslog import Entry
    from kmesh.core.exposition import Family, Sample

Reading = list[tuple["Family", "list[Sample]"]]

TOTAL = AggregationTemporality.CUMULATIVE
SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warn": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
}
_PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
KNOWN = 1 << 17


class Exporters:
    """One exporter a signal. Every call blocks and says whether the other side took it all."""

    def __init__(self, endpoint: str, attributes: Mapping[str, str], start: int) -> None:
        """``start`` is when counting began, nanoseconds since the epoch."""
        base = endpoint.rstrip("/")
        self._start = start
        self._scope = InstrumentationScope("kmesh", __version__)
        # The environment's OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME win.
        self._resource = Resource(dict(attributes)).merge(Resource.create({}))
        self._metrics = OTLPMetricExporter(f"{base}/v1/metrics")
        self._logs = OTLPLogExporter(f"{base}/v1/logs")
        self._spans = OTLPSpanExporter(f"{base}/v1/traces")
        self._labels: dict[str, dict[str, str]] = {}

    def metrics(self, reading: Reading, now: int) -> bool:
        """Every sample at ``now``, nanoseconds since the epoch."""
        found = [each for family, samples in reading for each in self._family(family, samples, now)]
        scope = ScopeMetrics(self._scope, found, "")
        data = MetricsData([ResourceMetrics(self._resource, [scope], "")])
        return self._metrics.export(data) is MetricExportResult.SUCCESS

    def logs(self, entries: Sequence[Entry]) -> bool:
        """Lines of the access log."""
        records = [self._record(entry) for entry in entries]
        return self._logs.export(records) is LogRecordExportResult.SUCCESS

    def spans(self, entries: Sequence[Entry]) -> bool:
        """Connections, each a span and a trace of its own: nothing at this layer links them."""
        return (
            self._spans.export([self._span(each) for each in entries]) is SpanExportResult.SUCCESS
        )

    def _family(self, family: Family, samples: list[Sample], now: int) -> Iterator[Metric]:
        if family.kind is Kind.HISTOGRAM:
            buckets = Histogram([self._histogram(samples, now)], TOTAL)
            yield Metric(family.name, family.help, "", buckets)
            return
        counts = family.kind in (Kind.COUNTER, Kind.SUMMARY)
        for suffix in sorted({sample.suffix for sample in samples}):
            points = [
                NumberDataPoint(self._attributes(one.labels), self._start, now, one.value)
                for one in samples
                if one.suffix == suffix
            ]
            data = Sum(points, TOTAL, is_monotonic=True) if counts else Gauge(points)
            yield Metric(family.name + suffix, family.help, "", data)

    def _histogram(self, samples: list[Sample], now: int) -> HistogramDataPoint:
        """The one series that our histograms have; buckets are cumulative with us, not there."""
        buckets = [sample for sample in samples if sample.suffix == "_bucket"]
        bounds = [float(self._attributes(one.labels)["le"]) for one in buckets]
        counts = [int(one.value) for one in buckets]
        own = [count - below for count, below in zip(counts, [0, *counts[:-1]], strict=True)]
        total = next(sample.value for sample in samples if sample.suffix == "_sum")
        return HistogramDataPoint(
            {}, self._start, now, counts[-1], total, own, bounds[:-1], float("nan"), float("nan")
        )

    def _attributes(self, labels: str) -> dict[str, str]:
        found = self._labels.get(labels)
        if found is None:
            if len(self._labels) >= KNOWN:
                self._labels.clear()
            pairs = _PAIR.findall(labels)
            found = {name: _ESCAPE.sub(_unescaped, value) for name, value in pairs}
            self._labels[labels] = found
        return found

    def _record(self, entry: Entry) -> ReadableLogRecord:
        record = LogRecord(
            timestamp=entry.time,
            observed_timestamp=entry.time,
            severity_text=entry.level,
            severity_number=SEVERITIES[entry.level],
            body=entry.message,
            attributes={**fields(entry), "scope": SCOPE},
        )
        return ReadableLogRecord(record, self._resource, self._scope)

    def _span(self, entry: Entry) -> ReadableSpan:
        trace, span = secrets.randbits(128) or 1, secrets.randbits(64) or 1
        status = Status(StatusCode.ERROR, entry.error) if entry.error else Status()
        return ReadableSpan(
            f"connect {entry.service.hostname or 'unknown'}",
            SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)),
            resource=self._resource,
            attributes=fields(entry),
            kind=SpanKind.CLIENT if entry.outbound else SpanKind.SERVER,
            status=status,
            start_time=entry.time - entry.duration,
            end_time=entry.time,
            instrumentation_scope=self._scope,
        )


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
