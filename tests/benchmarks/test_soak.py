"""The soak notices what it looks for, and a short one runs whole; so does the restart benchmark."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.soak import growth
from tests.benchmarks.runs import ROOT, whole
from tests.held import Held
from tests.kernel.net import namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kernel.net import Namespace

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, mounts and BPF need root"),
]
HERE, THERE, NOBODY = "10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.1:9"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("soak") / "soak"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
    command = ["gcc", *flags, "-o", str(target), str(ROOT / "benchmarks/soak.c")]
    subprocess.run(command, check=True)
    return str(target)


@pytest.fixture
def pod(program: str) -> Iterator[Namespace]:
    """A namespace with a server that answers at two addresses."""
    with namespace("10.1.0.1", "10.1.0.2") as made:
        command = ["ip", "netns", "exec", made.name, program, "serve", HERE, THERE]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == "ready\n"
            yield made
        finally:
            server.kill()
            server.communicate()


def dial(program: str, pod: Namespace, *pairs: str) -> dict[str, Any]:
    command = ["ip", "netns", "exec", pod.name, program, "dial", "100", *pairs]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as dialler:
        assert dialler.wait(20) == 0
        assert dialler.stdout is not None
        found: dict[str, Any] = json.loads(dialler.stdout.read().partition("\n")[2])
    return found


@pytest.mark.parametrize(
    ("pair", "counted", "sample"),
    [
        (f"tcp/yes/{HERE}/{HERE},{THERE}", "made", ""),
        (f"udp/yes/{HERE}/{HERE}", "made", ""),
        (f"keep/yes/{HERE}/{HERE}", "made", ""),
        (f"tcp/no/{NOBODY}", "refused", ""),
        (f"udp/no/{NOBODY}", "refused", ""),
        (f"tcp/yes/{NOBODY}/{HERE}", "failed", "cannot connect: Connection refused"),
        (f"udp/yes/{NOBODY}/{HERE}", "failed", "has no answer: Connection refused"),
        (f"tcp/yes/{HERE}/{THERE}", "misrouted", "met somebody else"),
        (f"udp/yes/{HERE}/{THERE}", "misrouted", "met somebody else"),
        (f"tcp/no/{HERE}", "violations", "was let in"),
        (f"udp/no/{HERE}", "violations", "was let in"),
    ],
)
def test_every_outcome_is_counted_as_what_it_is(
    program: str, pod: Namespace, pair: str, counted: str, sample: str
) -> None:
    found = dial(program, pod, pair)
    names = ("made", "refused", "failed", "misrouted", "violations", "lost")
    expected = {counted, *(["made"] if counted == "misrouted" else [])}
    late = {"refused"} if pair.startswith("udp/no") else set()  # silence says it: here, or too slow
    assert expected <= {name for name in names if found[name]} <= expected | late
    assert bool(found["samples"]) == bool(sample)
    assert all(each.endswith(sample) for each in found["samples"])


def test_a_short_soak(tmp_path: Path) -> None:
    found, _ = whole("soak", tmp_path)
    assert min(found["made"], found["refused"], found["exchanges"], found["restarts"]) > 0
    assert {found[name] for name in ("failed", "misrouted", "violations", "lost")} == {0}
    assert found["audit_differences"] == {}
    for name in ("pins", "programs"):
        assert found[f"{name}_first"] == found[f"{name}_last"] > 0
    assert found["resident_kib_first"] > found["files_first"] > 0 < found["map_kib_last"]


def test_growth_is_a_slope_that_noise_does_not_hide() -> None:
    noise = (3, -2, 5, -4)
    samples = [(10 * i, Held(70, 1000 + 40 * i + noise[i], 50, 18, 30)) for i in range(4)]
    found = growth(samples)
    assert (found["resident_kib_first"], found["resident_kib_last"]) == (1003, 1116)
    assert 3.5 < found["resident_kib_per_restart"] < 4.5
    assert found["map_kib_per_restart"] == 0
    assert growth([]) == {}


def test_restart(tmp_path: Path) -> None:
    found, output = whole("restart", tmp_path)
    rows = {row["way"]: row for row in found["connects"]}
    assert set(rows) == {"calm", "ended", "killed", "replaced", "calm 2"}
    for way, row in rows.items():
        assert row["connections"] > 0
        assert (row["failed"], row["misrouted"]) == (0, 0)
        assert bool(row["restarts"]) == (way not in ("calm", "calm 2"))
        assert way in output
    assert found["adopt"]["records"] > 0
    assert found["adopt"]["in_sync_after_s"] >= found["adopt"]["answers_after_s"] > 0
