"""Memory of contenders that hold a mesh, idle, by its size."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import _agent, _envoy, _nft, dataset
from benchmarks._charged import charged, group
from benchmarks._server import Server
from benchmarks._stage import Place, end, listening, settle
from benchmarks.mesh import site, upstream, ztunnel
from benchmarks.mesh.site import dotted

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Collection, Iterator

    from benchmarks._stage import Stage
    from benchmarks.mesh.contend import Options

SIZES = (0, 1000, 10_000, 100_000)
QUICK_SIZES = (0, 1000)
MIB = 1 << 20
LONG = 120.0  # seconds: 5,000 clusters take Envoy some


def measure(
    stage: Stage, sizes: tuple[int, ...], names: Collection[str], options: Options
) -> list[dict[str, Any]]:
    """One row for each contender of those ``names`` that holds a mesh, and each size. Raises
    Failed."""
    rows = []
    for size in sizes:
        if "kmesh" in names:
            rows.append(_row("kmesh", size, *_kmesh(stage, size)))
        if "nft" in names and (rules := _nftables(stage, size)) is not None:
            rows.append(_row("nft, each pod", size, 0, rules))
        if _any(names, "envoy") and _envoy.binary() is not None:
            rows.append(_row("envoy, each proxy", size, _one_envoy(stage, size)))
        if _any(names, "ztunnel"):
            process = ztunnel.alone(stage, options, size)
            rows.append(_row("ztunnel, each", size, _ended(stage, process)))
        if "upstream" in names:
            rows.append(_row("upstream", size, *_upstream(stage, size, options)))
    return rows


def _any(names: Collection[str], kind: str) -> bool:
    return any(name.startswith(kind) for name in names)


def _upstream(stage: Stage, size: int, options: Options) -> tuple[int, int]:
    large = options._replace(services=size // dataset.ENDPOINTS, endpoints=dataset.ENDPOINTS)
    number = 100 + sum(size > one for one in SIZES)  # of its network
    pods = site.build(stage, f"memory-upstream-{size}", number, 2, vips=False)
    [works] = upstream.kmesh(stage, pods, large).works
    settle([works])
    pids = [int(pid) for pid in (works / "cgroup.procs").read_text().split()]
    found = sum(map(resident, pids)), sum(sum(_agent.map_memory(pid).values()) for pid in pids)
    (works / "cgroup.kill").write_text("1")
    return found


def _row(way: str, size: int, process: int, kernel: int = 0) -> dict[str, Any]:
    return {"way": way, "workloads": size, "process_mib": process / MIB, "kernel_mib": kernel / MIB}


def _nftables(stage: Stage, size: int) -> int | None:
    """Bytes of the kernel for the rules in one namespace; None where nobody counts them."""
    with group(stage) as counting:
        if counting is None:
            return None
        place = Place(stage.namespace(), counting)
        stage.run(["nft", "-f", "-"], place, _nft.dnat(_services(size)))
        return charged(counting)


def _kmesh(stage: Stage, size: int) -> tuple[int, int]:
    server = Server(stage)
    services = size // dataset.ENDPOINTS
    server.call("mesh", workloads=size, services=services)
    with _agent.running(stage, server.address, f"memory-{size}") as agent:
        agent.wait(_agent.synced(size, services))
        found = resident(agent.process.pid), sum(agent.maps().values())
    server.end()
    return found


def _one_envoy(stage: Stage, size: int) -> int:
    path, cgroup = stage.folder / f"memory-{size}.json", stage.cgroup(f"memory-envoy-{size}")
    path.write_text(json.dumps(config(size)))
    program = _envoy.binary()
    assert program is not None
    netns = stage.namespace()
    process = stage.start(_envoy.command(program, path), Place(netns, cgroup))
    listening(process.pid, _nft.OUTBOUND_PORT, netns, LONG)
    settle([cgroup])
    return _ended(stage, process)


def _ended(stage: Stage, process: subprocess.Popen[str]) -> int:
    """What a process that has been set up holds; it is ended."""
    time.sleep(0.5)  # its threads give back what starting took
    found = resident(process.pid)
    with stage.held():
        end(process)
    return found


def config(size: int) -> dict[str, Any]:
    """Envoy with the services and endpoints of a mesh of so many workloads."""
    names = {key: f"service-{index}" for index, key in enumerate(_services(size))}
    clusters = [_envoy.static(names[key], found) for key, found in _services(size).items()]
    listener = _envoy.captured("", _nft.OUTBOUND_PORT, names, _envoy.PASS)
    return _envoy.bootstrap([listener], [*clusters, _envoy.original(_envoy.PASS)])


def _services(size: int) -> dict[_nft.Key, list[str]]:
    """The endpoints of each service of a mesh of so many workloads."""
    return {(dotted(dataset.service_address(index)), 80): list(_endpoints(index))
            for index in range(size // dataset.ENDPOINTS)}  # fmt: skip


def _endpoints(service: int) -> Iterator[str]:
    for index in range(dataset.ENDPOINTS):
        yield f"{dotted(dataset.pod_address(service * dataset.ENDPOINTS + index))}:8080"


def resident(pid: int) -> int:
    """Bytes of a process, what it shares with others in equal parts."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
