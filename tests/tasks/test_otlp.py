"""OTLP over HTTP to a small receiver on 127.0.0.1: what arrives is what was said."""

from __future__ import annotations

import gzip
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kmesh.core import addr
from kmesh.core.accesslog import COMPLETE, Entry, fields
from kmesh.core.exposition import Family, Kind, Metric, Sample, label_text
from kmesh.core.histogram import Histogram
from kmesh.core.labels import Names, ServiceName
from kmesh.tasks import otlp
from kmesh.tasks.otlp import Otlp
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

KINDS: dict[str, Any] = {
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/traces": ExportTraceServiceRequest,
}
ODD = 'a "quoted" \\ back\nslash'


class Receiver:
    """Keeps the last message of each path; answers with ``status``."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}
        self.status = 200
        self.changed = anyio.Event()
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        self.last[request.path] = KINDS[request.path].FromString(body)
        self.changed.set()
        self.changed = anyio.Event()
        return web.Response(status=self.status)

    async def until(self, path: str) -> Any:
        with anyio.fail_after(20):
            while path not in self.last:
                await self.changed.wait()
        return self.last.pop(path)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        for path in KINDS:
            app.router.add_post(path, self.take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


class Collected:
    """A collector with these metrics."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    async def collect(self) -> list[Metric]:
        return list(self._metrics)


def collected(*metrics: Metric) -> Any:
    return Collected(*metrics)


@asynccontextmanager
async def exporting(receiver: Receiver, *metrics: Metric) -> AsyncIterator[Otlp]:
    async with receiver.serving() as base, anyio.create_task_group() as tasks:
        made = Otlp(base, collected(*metrics), {"k8s.node.name": "n1"}, interval=0.05)
        tasks.start_soon(made.run)
        yield made
        tasks.cancel_scope.cancel()


async def test_metrics_arrive_with_their_types_labels_and_values() -> None:
    counter = Family("kmesh_things", Kind.COUNTER, "Things", ("a",))
    gauge = Family("kmesh_level", Kind.GAUGE, "Level")
    delay = Family("kmesh_delay_seconds", Kind.HISTOGRAM, "Delay", ("le",))
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.5, 0.6, 7.0):
        histogram.note(value)
    receiver = Receiver()
    metrics = (
        Metric(counter, [Sample(label_text(("a",), (ODD,)), 3)]),
        Metric(gauge, [Sample("", 0.5)]),
        Metric(delay, list(histogram.samples())),
    )
    async with exporting(receiver, *metrics):
        request = await receiver.until("/v1/metrics")
    (resource,) = request.resource_metrics
    attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert attributes["k8s.node.name"] == "n1"
    found = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    things = found["kmesh_things"].sum
    assert things.is_monotonic and things.aggregation_temporality == 2
    (point,) = things.data_points
    assert (point.as_int, point.attributes[0].value.string_value) == (3, ODD)
    assert point.start_time_unix_nano <= point.time_unix_nano
    assert found["kmesh_level"].gauge.data_points[0].as_double == 0.5
    (buckets,) = found["kmesh_delay_seconds"].histogram.data_points
    assert list(buckets.explicit_bounds) == [0.1, 1.0]
    assert list(buckets.bucket_counts) == [1, 2, 1]
    assert (buckets.count, buckets.sum) == (4, pytest.approx(8.15))


ENTRY = Entry(
    1_700_000_000_000_000_000, COMPLETE, True, (addr.parse("10.1.0.1"), 40000),
    (addr.parse("10.1.0.2"), 80), Names("client"), Names("web"), ServiceName("web.shop"),
    84, 222, 5_000_000, error="connection failed: refused",
)  # fmt: skip


async def test_log_lines_arrive_with_ztunnels_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "EVERY", 0.01)
    receiver = Receiver()
    async with exporting(receiver) as made:
        made.put_logs([ENTRY])
        request = await receiver.until("/v1/logs")
        await eventually(lambda: made.statistics().sent["logs"])
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    assert record.body.string_value == COMPLETE
    assert (record.time_unix_nano, record.severity_text) == (ENTRY.time, "error")
    keys = {each.key for each in record.attributes}
    assert keys == {*fields(ENTRY), "scope"}


async def test_a_failed_connection_is_a_span_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp, "EVERY", 0.01)
    receiver = Receiver()
    async with exporting(receiver) as made:
        made.put_spans([ENTRY])
        request = await receiver.until("/v1/traces")
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert span.name == "connect web.shop"
    assert span.end_time_unix_nano - span.start_time_unix_nano == ENTRY.duration
    assert (span.status.code, span.status.message) == (2, ENTRY.error)
    assert span.kind == 3


async def test_what_the_other_side_refuses_is_counted_and_goes_on_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp, "EVERY", 0.01)
    receiver = Receiver()
    receiver.status = 400
    async with exporting(receiver) as made:
        made.put_logs([ENTRY, ENTRY])
        await receiver.until("/v1/logs")
        await eventually(lambda: made.statistics().failed["logs"] == 2)
        receiver.status = 200
        made.put_logs([ENTRY])
        await eventually(lambda: made.statistics().sent["logs"] == 1)


async def test_what_nobody_takes_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "ROOM", 10)
    made = Otlp("http://127.0.0.1:1", collected(), {})
    made.put_logs([ENTRY] * 15)
    assert made.statistics().dropped == {"metrics": 0, "logs": 5, "spans": 0}
