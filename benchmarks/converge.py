"""From an open stream to complete maps, then steady churn: 100,000 workloads, 5,000 services.

Three processes: a gRPC server with the encoded mesh, the agent as users run it (``kmesh daemon``,
real maps in a private bpffs), and google-protobuf's C parser over the same bytes as the yardstick.
The agent's numbers are its own (GET /state) and the kernel's (CPU time, peak RSS).

``python -m benchmarks.converge [--workloads N] [--services N] [--seconds S] [--rate R]``
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import dataset, harness

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_SECONDS = 0.01
DEADLINE = 120.0


class Client(http.client.HTTPConnection):
    """The agent's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))

    def state(self) -> dict[str, Any]:
        """GET /state."""
        self.request("GET", "/state")
        found: dict[str, Any] = json.loads(self.getresponse().read())
        return found


async def serve(workloads: int, services: int) -> None:
    """The server process: prints its address, then obeys one command a line on stdin."""
    from kmesh.controlplane.server import ControlPlane, Listen
    from kmesh.core.events import ADDRESS

    plane = ControlPlane(listen=Listen.parse("127.0.0.1:0"))
    for each in dataset.mesh(workloads, services):
        plane.set_resource(ADDRESS, each.name, each.version, each.message)
    async with plane.serving() as address:
        sys.stdout.write(f"ready {address}\n")
        sys.stdout.flush()
        loop = asyncio.get_running_loop()
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).split():
            seconds, rate = float(line[0]), int(line[1])
            sent = await churn(plane, workloads, seconds, rate)
            sys.stdout.write(f"sent {sent}\n")
            sys.stdout.flush()


async def churn(plane: Any, workloads: int, seconds: float, rate: int) -> int:
    """Flip the health of endpoints all over the mesh, ``rate`` a second, in small responses."""
    from kmesh.core.events import ADDRESS

    start, sent = time.monotonic(), 0
    while (spent := time.monotonic() - start) < seconds:
        while sent < spent * rate:
            index, unhealthy = sent * 7919 % workloads, sent // workloads % 2 == 0
            each = dataset.workload(index, unhealthy=unhealthy)
            plane.set_resource(ADDRESS, each.name, each.version, each.message)
            sent += 1
        await asyncio.sleep(BATCH_SECONDS)
    return sent


@contextmanager
def agent(folder: Path, address: str) -> Iterator[tuple[Client, subprocess.Popen[bytes]]]:
    """``kmesh daemon`` on a private bpffs, pins removed at the end."""
    bpffs = folder / "bpffs"
    bpffs.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(bpffs)], check=True)
    log = (folder / "agent.log").open("w")
    command = [sys.executable, "-m", "kmesh", "daemon", "--run-dir", str(folder / "run")]
    command += ["--bpf-fs-path", str(bpffs), "--xds-address", f"http://{address}"]
    command += ["--network", "network-1", "--node-name", "gke-production-pool-0-00000"]
    process = subprocess.Popen(command, stderr=log)
    try:
        client = Client(folder / "run" / "kmesh.sock")
        wait(lambda: (folder / "run" / "kmesh.sock").exists(), process)
        yield client, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        clean = [sys.executable, "-m", "kmesh", "uninstall", "--bpf-fs-path", str(bpffs)]
        subprocess.run(clean, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["umount", str(bpffs)], check=True)
        log.close()


def wait(condition: Any, process: subprocess.Popen[bytes]) -> None:
    """Until the condition holds; raises when the agent ends or time is up."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if process.poll() is not None:
            raise RuntimeError("the agent ended, see its log")
        if time.monotonic() > deadline:
            raise RuntimeError("not converged in time")
        time.sleep(0.25)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One cold start and one churn."""
    sizes = [str(options.workloads), str(options.services)]
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.converge", "--serve", *sizes],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        address = server.stdout.readline().split()[1]
        with agent(folder, address) as (client, process):
            begin = time.monotonic()
            wait(lambda: synced(client, options), process)
            cold = client.state()
            seconds = time.monotonic() - begin
            server.stdin.write(f"{options.seconds} {options.rate}\n")
            server.stdin.flush()
            sent = int(server.stdout.readline().split()[1])
            churn_loop = client.state()["loop"]
            wait(lambda: client.state()["synced"], process)
            after = client.state()
    finally:
        server.stdin.close()
        server.wait(30)
    return {
        "cold": cold,
        "cold_wall_seconds": seconds,
        "sent": sent,
        "churn_loop": churn_loop,
        "after": after,
    }


def synced(client: Client, options: argparse.Namespace) -> bool:
    """Whether every service and workload is planned and written."""
    try:
        state = client.state()
    except (ConnectionError, FileNotFoundError):
        client.close()
        return False
    planner = state["planner"]
    counts = planner["workloads"], planner["services"]
    return bool(state["synced"]) and counts == (options.workloads, options.services)


def yardstick(options: argparse.Namespace, folder: Path) -> float:
    """CPU seconds of google-protobuf's C parser for the same bytes in one response."""
    entries = list(dataset.mesh(options.workloads, options.services))
    files = []
    for index, raw in enumerate(dataset.responses(entries, len(entries))):
        path = folder / f"response-{index}"
        path.write_bytes(raw)
        files.append(path)
    command = [sys.executable, "-m", "benchmarks.decode", "--case", "upb, each"]
    command += ["--folder", str(folder), *map(str, files)]
    asked = subprocess.run(command, input="go\n" * 4, capture_output=True, text=True, check=True)
    return harness.median([json.loads(line)["cpu_s"] for line in asked.stdout.splitlines()])


def report(options: argparse.Namespace, found: dict[str, Any], upb: float) -> dict[str, Any]:
    """The table, and what goes into the JSON file."""
    cold, after = found["cold"], found["after"]
    start, spent = cold["process"]["start_cpu_seconds"], cold["process"]["cpu_seconds"]
    visible = after["writer"]["visible_ms"]
    numbers = {
        "workloads": options.workloads,
        "services": options.services,
        "upb_cpu_s": upb,
        "start_cpu_s": start,
        "cold_cpu_s": spent - start,
        "cold_cpu_ratio": (spent - start) / upb,
        "total_cpu_ratio": spent / upb,
        "cold_wall_s": found["cold_wall_seconds"],
        "cold_peak_rss_mib": cold["process"]["peak_rss_kib"] / 1024,
        "cold_longest_stall_ms": cold["loop"]["longest"] * 1000,
        "cold_longest_stall_cpu_ms": cold["loop"]["longest_cpu"] * 1000,
        "records": cold["planner"]["records"],
        "slots": cold["planner"]["segments"]["used"],
        "changes": found["sent"],
        "changes_per_s": found["sent"] / options.seconds,
        "churn_cpu_share": (after["process"]["cpu_seconds"] - spent) / options.seconds,
        "visible_p50_ms": visible.get("p50"),
        "visible_p99_ms": visible.get("p99"),
        "visible_max_ms": visible.get("max"),
        "churn_longest_stall_ms": found["churn_loop"]["recent"] * 1000,
        "churn_longest_stall_cpu_ms": found["churn_loop"]["recent_cpu"] * 1000,
        "peak_rss_mib": after["process"]["peak_rss_kib"] / 1024,
    }
    goals = {
        "cold_cpu_ratio": "<= 5", "cold_peak_rss_mib": "<= 180",
        "cold_longest_stall_cpu_ms": "<= 10", "visible_p99_ms": "<= 20",
        "churn_longest_stall_cpu_ms": "<= 10",
    }  # fmt: skip
    rows = [(name, f"{value:,.2f}", goals.get(name, "")) for name, value in numbers.items()]
    harness.show("converge", ("measure", "value", "goal"), rows)
    return numbers


def main() -> None:
    """Run once (it takes about a minute) and write benchmarks/results/converge.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=int, default=100_000)
    parser.add_argument("--services", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--serve", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        import uvloop

        uvloop.run(serve(*options.serve))
        return
    with tempfile.TemporaryDirectory(prefix="kmesh-converge-") as name:
        folder = Path(name)
        upb = yardstick(options, folder)
        found = measure(options, folder)
    harness.save("converge", report(options, found, upb))


if __name__ == "__main__":
    main()
