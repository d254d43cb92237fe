"""What a dump of 100,000 workloads costs, how long it holds the loop up, what it needs in memory.

    python -m benchmarks.dumps [--workloads N] [--repeat N] [--quick]

The real handlers behind the real listener, asked over HTTP on 127.0.0.1 by another process, while a
timer on the same loop notices every stall. Beside it the same objects are made and encoded at once:
all of that time is one stall, and all of it lies in memory.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread
import orjson

from benchmarks import dataset, harness
from benchmarks.render import Client
from kmesh.config import parse
from kmesh.core.changes import Changes
from kmesh.core.events import ADDRESS
from kmesh.core.model import Workload
from kmesh.core.options import Listen
from kmesh.core.store import Store
from kmesh.core.views import upstream_service, upstream_workload
from kmesh.tasks import dumps
from kmesh.tasks.admin import LIMITS
from kmesh.tasks.lag import Lag
from kmesh.tasks.listener import Listener
from kmesh.wire.discovery import Decoder, ResponseReader
from kmesh.wire.dump import dump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kmesh.core.model import Resource
    from kmesh.tasks.admin_context import Context

AT_ONCE = "all at once"
PIECE = 1 << 16
PLAIN = "Accept: text/plain"
WAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "upstream": ("/debug/config_dump/dual-engine", ()),
    "upstream, a table": ("/debug/config_dump/dual-engine", (PLAIN,)),
    "upstream, one namespace": (
        "/debug/config_dump/dual-engine?namespace=payments-eu-007", ()
    ),
    "ztunnel": ("/config_dump", ()),
    "resources": ("/debug/resources", ()),
}  # fmt: skip


def held(workloads: int) -> dict[str, Resource]:
    """Resources as an agent keeps them after a response with all of them."""
    entries = list(dataset.mesh(workloads, workloads // dataset.ENDPOINTS))
    reader, found = ResponseReader(Decoder()), {}
    raw = dataset.response(entries, "n")
    for at in range(0, len(raw), PIECE):
        found.update((each.name, each) for each in reader.feed(raw[at : at + PIECE]))
    reader.finish()
    return found


def context(resources: dict[str, Resource]) -> Context:
    """What the handlers ask of an agent."""
    store = Store()
    store.apply((name, each.value) for name, each in resources.items())  # type: ignore[misc]
    pods = SimpleNamespace(wanted={}, rows={})
    session = SimpleNamespace(
        held=lambda kind: resources if kind == ADDRESS else {}, changes=Changes()
    )
    writer = SimpleNamespace(steering=SimpleNamespace(store=store, pods=pods))
    made = SimpleNamespace(session=session, writer=writer, config=parse([], {}))
    return cast("Context", made)


def whole(resources: dict[str, Resource]) -> int:
    """Every object, then all of them as JSON: bytes."""
    found = {"workloads": [], "services": []}
    for name in sorted(resources):
        resource = resources[name]
        is_workload = isinstance(resource.value, Workload)
        shape = (upstream_workload if is_workload else upstream_service)(dump(resource))
        found["workloads" if is_workload else "services"].append(shape)
    return len(orjson.dumps(found))


def rss() -> int:
    """Resident bytes at most since ``forget``."""
    return harness.peak_rss()


def forget() -> int:
    """Let the most be what it is now; that."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return rss()


async def measure(ask: Callable[[], Awaitable[int]], lag: Lag, repeat: int) -> dict[str, float]:
    """Medians of some runs."""
    runs = []
    for _ in range(repeat):
        before = forget()
        lag.statistics("bench")
        start, cpu = time.monotonic(), time.thread_time()
        size = await ask()
        spent = time.monotonic() - start, time.thread_time() - cpu
        stall = lag.statistics("bench")
        runs.append((*spent, stall.recent, stall.recent_cpu, size, rss() - before))
    names = ("seconds", "cpu", "stall", "stall_cpu", "bytes", "memory")
    middle = zip(names, zip(*runs, strict=True), strict=True)
    return {name: harness.median(values) for name, values in middle}


async def run(resources: dict[str, Resource], repeat: int) -> dict[str, dict[str, float]]:
    """Every way of asking."""
    client, lag, results = Client(), Lag(), {}
    listener = Listener(
        "admin API", Listen("127.0.0.1", 0), dumps.routes(context(resources)), LIMITS
    )
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(listener.run)
            tasks.start_soon(lag.run)
            gc.freeze()
            for way, (path, headers) in WAYS.items():
                url = f"http://{listener.listening[0]}{path}"

                async def ask(url: str = url, headers: tuple[str, ...] = headers) -> int:
                    return await anyio.to_thread.run_sync(client.ask, url, headers)

                results[way] = await measure(ask, lag, repeat)

            async def at_once() -> int:
                size = whole(resources)
                await anyio.sleep(0.05)  # the timer must have its turn to see it
                return size

            results[AT_ONCE] = await measure(at_once, lag, repeat)
            tasks.cancel_scope.cancel()
    finally:
        client.close()
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="5,000 workloads, once")
    args = parser.parse_args()
    count, repeat = (5000, 1) if args.quick else (args.workloads, args.repeat)
    resources = held(count)
    results = anyio.run(run, resources, repeat, backend_options={"use_uvloop": True})
    base = results[AT_ONCE]["cpu"]
    rows = [
        [way, f"{one['seconds']:.2f}", f"{one['cpu']:.2f}", f"{one['cpu'] / base:.2f}",
         f"{1000 * one['stall']:.1f}", f"{1000 * one['stall_cpu']:.1f}",
         f"{one['bytes'] / 1e6:.1f}", f"{one['memory'] / 1e6:+.1f}"]
        for way, one in results.items()
    ]  # fmt: skip
    columns = ["dump", "s", "CPU s", "x at once", "longest stall ms", "own ms", "MB", "memory MB"]
    harness.show(f"dumps: {count:,} workloads", columns, rows)
    print(harness.save("dumps", {"workloads": count, "dumps": results}))


if __name__ == "__main__":
    main()
