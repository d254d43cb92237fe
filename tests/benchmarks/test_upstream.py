"""The agent in Go as a contender: what it is given, with a fake of it (see fake_upstream)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from benchmarks.mesh import __main__ as command
from benchmarks.mesh import kubeapi, memory
from tests.benchmarks import fake_upstream
from tests.benchmarks.runs import fake, whole

if TYPE_CHECKING:
    from pathlib import Path

THINGS = {"nodes": [kubeapi.node("n0")], "pods": [kubeapi.pod("a", "10.0.0.1", "n0")]}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn0&limit=500", "PodList"),
        ("/api/v1/nodes", "NodeList"),
    ],
)
def test_lists_have_a_revision_from_which_to_watch(path: str, kind: str) -> None:
    found = kubeapi.answer(path, THINGS)
    assert found is not None
    assert found["kind"] == kind
    assert found["metadata"]["resourceVersion"]
    assert len(found["items"]) == 1


def test_one_thing_by_name() -> None:
    found = kubeapi.answer("/api/v1/nodes/n0", THINGS)
    assert found is not None
    assert found["status"]["addresses"] == [{"type": "InternalIP", "address": "127.0.0.1"}]
    assert kubeapi.answer("/api/v1/nodes/n1", THINGS) is None
    assert kubeapi.answer("/apis/apps/v1/elses", THINGS) is None


def test_without_a_binary_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command.parse(["--contenders", "upstream"])
    assert refused.value.code == 2
    assert "--kmesh: give the path of the binary" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, mounts and BPF need root")
@pytest.mark.e2e
def test_a_fake_gets_all_it_needs_but_steers_nothing(tmp_path: Path) -> None:
    program, results = fake(tmp_path, fake_upstream)
    options = ["--kmesh", str(program), "--contenders", "upstream", "--scenario", "connect"]
    found, _ = whole("mesh", results, *options, "--memory")
    held = [row for row in found["memory"] if row["way"] == "upstream"]
    assert [row["workloads"] for row in held] == list(memory.QUICK_SIZES)
    assert all(row["process_mib"] > 0 for row in held)
    # It was set up, its pods were enrolled; then nobody sent their connections anywhere.
    assert set(found["missing"]) == {"upstream"}
    assert found["missing"]["upstream"].endswith("connect: Network is unreachable")
    assert {row["way"] for row in found["rows"]} == {"direct"}


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, mounts and BPF need root")
@pytest.mark.e2e
def test_one_that_ends_is_missing_with_its_last_words(tmp_path: Path) -> None:
    broken = tmp_path / "kmesh-daemon"
    broken.write_text("#!/bin/sh\necho no such kernel >&2\nexit 1\n")
    broken.chmod(0o755)
    results = tmp_path / "results"
    results.mkdir()
    options = ["--kmesh", str(broken), "--contenders", "upstream", "--scenario", "connect"]
    found, output = whole("mesh", results, *options)
    assert "no such kernel" in found["missing"]["upstream"]
    assert "not measured: upstream:" in output
