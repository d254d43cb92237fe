"""The metrics listener over real HTTP on 127.0.0.1: formats, slices, failures, slow clients."""

from __future__ import annotations

import gzip
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import ClientSession
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from kmesh.core.exposition import OPENMETRICS, TEXT, Family, Kind, Metric, Sample, label_text
from kmesh.core.options import Listen
from kmesh.errors import BpfError
from kmesh.tasks import collector as collectors
from kmesh.tasks import listener, metrics
from kmesh.tasks.collector import Collector
from kmesh.tasks.metrics import PATHS, MetricsServer
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

pytestmark = pytest.mark.anyio

NUMBERS = Family("kmesh_n", Kind.COUNTER, "Numbers", ("n",))


class Writer:
    """Answers at once; ``busy`` never does."""

    def __init__(self, busy: bool = False) -> None:
        self._busy = busy
        self.asked = 0

    async def ask(self, work: Callable[[], Any]) -> Any:
        self.asked += 1
        if self._busy:
            await anyio.sleep_forever()
        return work()


def numbers(count: int) -> Callable[[], Iterable[Metric]]:
    rows = [Sample(label_text(("n",), (str(n),)), n) for n in range(count)]
    return lambda: [Metric(NUMBERS, rows)]


def collector(parts: dict[str, Callable[[], Iterable[Metric]]], writer: Writer) -> Collector:
    return Collector(lambda: parts, writer)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(
    parts: dict[str, Callable[[], Iterable[Metric]]], writer: Writer | None = None
) -> AsyncIterator[tuple[MetricsServer, str]]:
    server = MetricsServer(Listen("127.0.0.1", 0), collector(parts, writer or Writer()))
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.run)
        yield server, f"http://{server.statistics().listening}"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_gives_the_text_format(path: str) -> None:
    async with (
        serving({"numbers": numbers(3)}) as (_, base),
        ClientSession() as client,
        client.get(base + path) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["Content-Type"] == TEXT.content_type
        found = {family.name: family for family in read_text(await answer.text())}
    assert [sample.value for sample in found["kmesh_n"].samples] == [0, 1, 2]
    assert found["kmesh_scrapes"].samples[0].value == 0


async def test_openmetrics_on_request() -> None:
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with (
        serving({"numbers": numbers(3)}) as (_, base),
        ClientSession() as client,
        client.get(base + "/metrics", headers=headers) as answer,
    ):
        assert answer.headers["Content-Type"] == OPENMETRICS.content_type
        parsed: Any = read_openmetrics(await answer.text())  # type: ignore[no-untyped-call]
        assert {family.name for family in parsed} >= {"kmesh_n"}


async def test_compressed_and_plain_are_the_same() -> None:
    async with (
        serving({"numbers": numbers(5000)}) as (_, base),
        ClientSession(auto_decompress=False) as client,
    ):
        bodies = {}
        for coding in ("gzip", "identity"):
            headers = {"Accept-Encoding": coding}
            async with client.get(base + "/metrics", headers=headers) as answer:
                assert answer.headers.get("Content-Encoding", "identity") == coding
                bodies[coding] = await answer.read()
    plain = gzip.decompress(bodies["gzip"])
    mine = [line for line in plain.splitlines() if line.startswith(b"kmesh_n_total")]
    assert len(mine) == 5000
    assert mine == [x for x in bodies["identity"].splitlines() if x.startswith(b"kmesh_n_total")]
    assert len(bodies["gzip"]) < len(plain) / 4


async def test_a_part_that_fails_is_left_out_counted_and_the_rest_is_there() -> None:
    def broken() -> Iterable[Metric]:
        raise BpfError("read a map: EPERM", 1)

    async with (
        serving({"kernel": broken, "numbers": numbers(1)}) as (server, base),
        ClientSession() as client,
        client.get(base + "/metrics") as answer,
    ):
        text = await answer.text()
        assert server.statistics().failures == {"kernel": 1}
    assert 'kmesh_scrape_failures_total{part="kernel"} 1\n' in text
    assert 'kmesh_scrape_failures_total{part="numbers"} 0\n' in text
    assert 'kmesh_n_total{n="0"} 0\n' in text


async def test_a_writer_that_does_not_answer_costs_only_the_kernels_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collectors, "ASK_DEADLINE", 0.01)
    parts = {"kernel": numbers(1), "numbers": numbers(2)}
    async with (
        serving(parts, Writer(busy=True)) as (_, base),
        ClientSession() as client,
        client.get(base + "/metrics") as answer,
    ):
        text = await answer.text()
    assert 'kmesh_scrape_failures_total{part="kernel"} 1\n' in text
    assert 'kmesh_n_total{n="1"} 1\n' in text


async def test_parts_that_read_growing_maps_are_read_between_the_writers_batches() -> None:
    writer = Writer()
    async with (
        serving({"kernel": numbers(1)}, writer) as (_, base),
        ClientSession() as client,
        client.get(base + "/metrics") as answer,
    ):
        await answer.read()
    assert writer.asked == 1


async def test_a_client_that_goes_away_is_counted_and_hurts_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "DEADLINE", 0.2)
    async with serving({"numbers": numbers(200_000)}) as (server, base), ClientSession() as client:
        host, _, port = base.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            await eventually(lambda: server.statistics().abandoned)
        monkeypatch.setattr(metrics, "DEADLINE", 60.0)
        async with client.get(base + "/metrics") as answer:
            assert "kmesh_scrapes_abandoned_total 1\n" in await answer.text()


async def test_an_address_that_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "AGAIN", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        server = MetricsServer(Listen("127.0.0.1", port), collector({}, Writer()))
        async with anyio.create_task_group() as tasks:
            await tasks.start(server.run)
            assert server.statistics().listening == ""
            holder.close()
            await eventually(lambda: server.statistics().listening)
            tasks.cancel_scope.cancel()
