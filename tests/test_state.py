"""The state as JSON, from the very objects of a daemon."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import orjson
import pytest

from kmesh import config
from kmesh.app import App
from kmesh.bpf import removal
from kmesh.core import addr
from kmesh.core.failures import Failure
from kmesh.core.plain import plain
from kmesh.core.rank import rank
from kmesh.state import peak_rss_kib, quantiles, title
from tests.core.meshes import WEB, service, workload
from tests.wire.messages import entry
from tests.wire.twins import encoded, scanned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kmesh.core.commands import Owner


@contextmanager
def daemon(directory: Path, xds: str) -> Iterator[App]:
    """One that does not run, on a bpffs of its own."""
    where = directory / "bpffs"
    where.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(where)], check=True)
    try:
        flags = ["--bpf-fs-path", str(where), "--run-dir", str(directory), "--max-vips", "500"]
        flags += ["--xds-address", xds, "--node-name", "n1"]
        made = App(config.parse(flags, {}))
        try:
            yield made
        finally:
            made.plane.close()
            removal.remove(str(where))
    finally:
        subprocess.run(["umount", str(where)], check=True)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with daemon(tmp_path, "http://127.0.0.1:1") as made:
        yield made


@pytest.mark.kernel
def test_every_part_is_json_and_names_its_layer(app: App) -> None:
    pod = workload("w", "10.1.0.1", of=WEB)
    scanned(app.mesh, [entry(encoded(pod), pod.uid)])
    app.steering.put([(WEB, service(WEB, "10.9.0.1"))])
    app.steering.failing[addr.parse("10.9.0.1"), 128] = Failure(1, 0.0, "no room")
    app.steering.failing[7] = Failure(1, 0.0, "no pods")
    found = orjson.loads(orjson.dumps(app.state()))
    assert set(found) >= {
        "version", "synced", "revision", "xds", "planner", "failing", "writer", "mailbox",
        "kernel", "authorization", "loop", "restarts", "process",
    }  # fmt: skip
    assert found["synced"] is False
    assert found["failing"] == {"10.9.0.1": "no room", "pod 7": "no pods"}
    assert (found["planner"]["workloads"], found["planner"]["services"]) == (1, 1)
    assert found["planner"]["segments"]["used"] == 0
    assert found["kernel"]["record_capacity"] == 500
    assert found["writer"]["visible_ms"] == {"count": 0}
    assert "delays" not in found["writer"]
    assert found["xds"]["connected"] is False
    assert found["process"]["peak_rss_kib"] > 1000


@pytest.mark.kernel
def test_without_a_control_plane_there_is_no_xds_part(tmp_path: Path) -> None:
    with daemon(tmp_path, "") as app:
        assert app.state()["xds"] is None


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ((addr.parse("10.9.0.1"), 128), "10.9.0.1"),
        ((addr.parse("10.9.0.0"), 120), "10.9.0.0/24"),
        ((addr.parse("fd09::"), 64), "fd09::/64"),
        ((addr.parse("fd09::1"), 128), "fd09::1"),
        (12, "pod 12"),
        (None, "tables"),
    ],
)
def test_what_fails_is_named_as_people_write_it(owner: Owner, expected: str) -> None:
    assert title(owner) == expected


def test_named_tuples_become_objects_at_any_depth() -> None:
    failure = Failure(1, 2.0, "why")
    assert plain({7: (failure, [failure])}) == {
        "7": [failure._asdict(), [failure._asdict()]],
    }  # fmt: skip
    assert plain(rank) is rank, "everything else as it is"


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantiles([]) == {"count": 0}
    assert quantiles([0.002]) == {"count": 1, "p50": 2.0, "p99": 2.0, "max": 2.0}
    many = [n / 1000 for n in range(101)][::-1]
    found = quantiles(many)
    assert {k: round(v) for k, v in found.items()} == {
        "count": 101, "p50": 50, "p99": 99, "max": 100,
    }  # fmt: skip


def test_the_peak_is_at_least_what_is_resident_now() -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    # The kernel sums its counters lazily: neighbouring readings may differ by a few pages.
    assert peak_rss_kib() >= resident * 9 // 10
