"""What a scrape of 100,000 series costs, and how long it holds the loop up.

    python -m benchmarks.render [--series N] [--repeat N]

The real listener with the real series of Istio's labels, asked over HTTP on 127.0.0.1 by another
process, while a timer on the same loop notices every stall. Beside it the usual client library
renders equal series; it cannot yield, so all of its time is one stall.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily

from benchmarks import harness
from kmesh.core.istio import Counts, TrafficSeries
from kmesh.core.labels import Ends, Names, ServiceName
from kmesh.core.options import Listen
from kmesh.tasks.collector import Collector
from kmesh.tasks.lag import Lag
from kmesh.tasks.metrics import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PER_SET = 4  # series of a label set: opened, closed, sent, received
ASK = """
import sys, urllib.request
for line in sys.stdin:
    url, *pairs = line.rstrip().split("|")
    request = urllib.request.Request(url, headers=dict(pair.split(": ", 1) for pair in pairs))
    with urllib.request.urlopen(request) as answer:
        size = sum(len(piece) for piece in iter(lambda: answer.read(1 << 20), b""))
    print(size, flush=True)
"""
WAYS = {
    "text": (),
    "text, gzip": ("Accept-Encoding: gzip",),
    "OpenMetrics": ("Accept: application/openmetrics-text",),
    "OpenMetrics, gzip": ("Accept: application/openmetrics-text", "Accept-Encoding: gzip"),
}


class Writer:
    """Has nothing to do."""

    async def ask(self, work: Callable[[], Any]) -> Any:
        return work()


def names(number: int, kind: str) -> Names:
    """A workload like those of a real mesh."""
    name = f"{kind}-{number:05d}"
    principal = f"spiffe://cluster.local/ns/namespace-{number % 50}/sa/{name}"
    space = f"namespace-{number % 50}"
    return Names(f"{name}-5d8f-x", space, name, name, "v1", principal, "Kubernetes")


def filled(sets: int) -> TrafficSeries:
    """Series of so many label sets."""
    series = TrafficSeries(sets)
    for number in range(sets):
        server = names(number % 2000, "server")
        hostname = f"{server.workload}.{server.namespace}.svc.cluster.local"
        service = ServiceName(hostname, server.namespace, server.workload)
        ends = Ends(True, names(number, "client"), server, service)
        series.count(ends, "-", Counts(3, 2, 0, 12345678, 87654321))
    return series


class Client:
    """Another process that asks: what starts it would hold the loop up too."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, url: str, headers: tuple[str, ...]) -> int:
        """Bytes of an answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("|".join((url, *headers)) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


async def ours(series: TrafficSeries, repeat: int, client: Client) -> dict[str, dict[str, float]]:
    """Medians by way of asking."""
    collector = Collector(lambda: {"connections": series.metrics}, Writer())  # type: ignore[arg-type]
    server, lag = MetricsServer(Listen("127.0.0.1", 0), collector), Lag()
    results = {}
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.run)
        tasks.start_soon(lag.run)
        url = f"http://{server.statistics().listening}/metrics"
        await anyio.to_thread.run_sync(client.ask, url, ())
        for way, headers in WAYS.items():
            runs = []
            for _ in range(repeat):
                lag.statistics("bench")
                cpu = time.thread_time()
                size = await anyio.to_thread.run_sync(client.ask, url, headers)
                stall = lag.statistics("bench")
                runs.append((
                    server.statistics().seconds, time.thread_time() - cpu, stall.recent,
                    stall.recent_cpu, size,
                ))  # fmt: skip
            columns = ("seconds", "cpu", "stall", "stall_cpu", "bytes")
            middle = zip(columns, zip(*runs, strict=True), strict=True)
            results[way] = {column: harness.median(values) for column, values in middle}
        tasks.cancel_scope.cancel()
    return results


class Copy:
    """The same series for the client library."""

    def __init__(self, series: TrafficSeries) -> None:
        rows: dict[str, list[tuple[list[str], list[str], float]]] = {}
        for family, samples in series.metrics():
            for labels, value, _ in samples:
                pairs = [part.split("=", 1) for part in labels[1:-1].split(",")]
                keys, texts = [k for k, _ in pairs], [v.strip('"') for _, v in pairs]
                rows.setdefault(family.name, []).append((keys, texts, value))
        self._families = []
        for name, series_of in rows.items():
            made = CounterMetricFamily(name, name, labels=series_of[0][0])
            for keys, texts, value in series_of:
                if keys == series_of[0][0]:
                    made.add_metric(texts, value)
            self._families.append(made)

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield from self._families


def theirs(series: TrafficSeries, repeat: int) -> dict[str, float]:
    """Rendering alone: no HTTP, no compression."""
    registry = CollectorRegistry()
    registry.register(Copy(series))
    cpu = harness.median(harness.cpu(lambda: generate_latest(registry), repeat))
    return {"seconds": cpu, "cpu": cpu, "stall": cpu, "stall_cpu": cpu, "bytes": 0}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    series = filled(args.series // PER_SET)
    count = sum(1 for family, rows in series.metrics() for _ in rows)
    client = Client()
    try:
        results = anyio.run(ours, series, args.repeat, client, backend_options={"use_uvloop": True})
    finally:
        client.close()
    results["client library"] = theirs(series, args.repeat)
    rows = [
        [way, f"{one['seconds']:.2f}", f"{one['cpu']:.2f}", f"{1000 * one['stall']:.1f}",
         f"{1000 * one['stall_cpu']:.1f}", f"{one['bytes'] / 1e6:.1f}"]
        for way, one in results.items()
    ]  # fmt: skip
    columns = ["way", "s", "CPU s", "longest stall ms", "own ms", "MB"]
    harness.show(f"render: {count:,} series", columns, rows)
    print(harness.save("render", {"series": count, "ways": results}))


if __name__ == "__main__":
    main()
