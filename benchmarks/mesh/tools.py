"""Load by programs of other people, from Debian: wrk, hey and iperf3."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks import _stage
from benchmarks._stage import Cpu, Failed, cpu_us, listening, settle
from benchmarks._turns import Cell, costs
from benchmarks.mesh.site import BULK_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks._stage import Stage
    from benchmarks._turns import Way
    from benchmarks.mesh.site import Site

SECONDS = 1
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


def install(names: Iterable[str]) -> dict[str, str]:
    """Install what is missing with apt-get; why what is still missing is so, by name."""
    missing = [name for name in names if not shutil.which(name)]
    if not missing:
        return {}
    why = "as root: apt-get install " + " ".join(missing)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        try:
            command = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *missing]
            _stage.run(["env", "DEBIAN_FRONTEND=noninteractive", *command])
        except Failed as failed:
            why = str(failed)[-300:]
    return {name: f"{name} is not installed: {why}" for name in missing if not shutil.which(name)}


def version(name: str) -> str:
    """The version of the Debian package."""
    command = ["dpkg-query", "-W", "-f", "${Version}", name]
    return _stage.run(command).strip()


def serve_bulk(stage: Stage, site: Site) -> None:
    """An iperf3 server in the first server pod."""
    pod = site.servers[0]
    where = ["--bind", pod.address, "--port", str(BULK_PORT)]
    stage.start(["iperf3", "--server", *where], pod.place)
    listening(pod.pid, BULK_PORT)


def measure(stage: Stage, way: Way, tool: str) -> Cell:
    """One slice of a tool's load; CPU of the client is that of its cgroup. Raises Failed."""
    place = way.clients[0]
    assert place.cgroup is not None
    groups = [place.cgroup, way.servers, *way.works]
    target = way.targets.split(",")[0]
    before, start = [cpu_us(one) for one in groups], time.monotonic()
    output = stage.run(COMMANDS[tool](target), place)
    settle(groups)
    used = [
        Cpu(now.user - old.user, now.system - old.system)
        for now, old in zip(map(cpu_us, groups), before, strict=True)
    ]
    parts = costs(*used, idle_us=1e6 * way.idle * (time.monotonic() - start))
    numbers: dict[str, float] = PARSERS[tool](output)
    # What streams has no operations: its CPU is that of a megabyte.
    count = numbers.get("operations") or numbers["bytes_per_s"] * SECONDS / 1e6
    return Cell(numbers | {name: value / count for name, value in parts.items()}, Counter())


def _wrk(target: str) -> list[str]:
    options = ["--threads", "1", "--connections", "16", "--duration", f"{SECONDS}s", "--latency"]
    return ["wrk", *options, f"http://{target}/"]


def _hey(target: str) -> list[str]:
    return ["hey", "-z", f"{SECONDS}s", "-c", "10", "-q", "100", f"http://{target}/"]


def _iperf3(target: str) -> list[str]:
    host, _, port = target.rpartition(":")
    return ["iperf3", "--client", host, "--port", port, "--time", str(SECONDS), "--json"]


def parse_wrk(output: str) -> dict[str, float]:
    """Rate and percentiles. Raises Failed when requests failed or the text is another."""
    if "Non-2xx" in output or "Socket errors" in output:
        raise Failed(f"wrk: {output.strip()[-200:]}")
    found = {}
    for part, field in (("50%", "p50_us"), ("90%", "p90_us"), ("99%", "p99_us")):
        found[field] = _time(_one(rf"^\s+{part}\s+([\d.]+)(us|ms|s)$", output))
    rate = float(_one(r"^Requests/sec:\s+([\d.]+)$", output)[0])
    count = float(_one(r"^\s+(\d+) requests in", output)[0])
    return found | {"rate": rate, "operations": count}


def parse_hey(output: str) -> dict[str, float]:
    """The same from hey."""
    if "Error distribution" in output or "[200]" not in output:
        raise Failed(f"hey: {output.strip()[-200:]}")
    found = {}
    for part, field in (("50%", "p50_us"), ("90%", "p90_us"), ("99%", "p99_us")):
        found[field] = 1e6 * float(_one(rf"^\s+{part} in ([\d.]+) secs$", output)[0])
    rate = float(_one(r"^\s+Requests/sec:\s+([\d.]+)$", output)[0])
    count = float(_one(r"^\s+\[200\]\s+(\d+) responses$", output)[0])
    return found | {"rate": rate, "operations": count}


def parse_iperf3(output: str) -> dict[str, float]:
    """Bytes per second as received, which is also the rate."""
    found: dict[str, Any] = json.loads(output)
    if "error" in found:
        raise Failed(f"iperf3: {found['error']}")
    rate = found["end"]["sum_received"]["bits_per_second"] / 8
    return {"rate": rate, "bytes_per_s": rate}


def _one(pattern: str, output: str) -> tuple[str, ...]:
    match = re.search(pattern, output, re.MULTILINE)
    if match is None:
        raise Failed(f"nothing like {pattern!r} in: {output.strip()[-200:]}")
    return match.groups()


def _time(found: tuple[str, ...]) -> float:
    return float(found[0]) * UNITS[found[1]]


COMMANDS = {"wrk": _wrk, "hey": _hey, "iperf3": _iperf3}
PARSERS = {"wrk": parse_wrk, "hey": parse_hey, "iperf3": parse_iperf3}
TOOLS = {"http": ("wrk", "hey"), "bulk": ("iperf3",)}


def needed(scenarios: Iterable[str]) -> list[str]:
    """The tools of scenarios."""
    return [tool for name in scenarios for tool in TOOLS.get(name, ())]
