"""Quick runs of benchmarks as users start them, and that they leave nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmesh.bpf import mounts

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def start(name: str, results: Path, *options: str) -> subprocess.Popen[str]:
    """A benchmark's quick run, temporary files below ``results``."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--results", str(results)]
    environment = os.environ | {"TMPDIR": str(results)}
    return subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def whole(name: str, results: Path, *options: str) -> tuple[dict[str, Any], str]:
    """(the JSON, standard output) of a quick run; it has left nothing."""
    process = start(name, results, *options)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert [path.name for path in results.iterdir()] == [f"{name}.json"]
    assert not cgroup(process.pid).exists()
    found: dict[str, Any] = json.loads((results / f"{name}.json").read_text())
    assert found["machine"]["cpus"] == os.cpu_count()
    return found["results"], output


def fake(folder: Path, module: ModuleType) -> tuple[Path, Path]:
    """(a program that runs a module of ours, a folder for results), below ``folder``; the latter's
    name is short, since paths of sockets must be."""
    program, results = folder / "program", folder / "r"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {module.__file__} "$@"\n')
    program.chmod(0o755)
    results.mkdir()
    return program, results


def cgroup(pid: int) -> Path:
    """The cgroup of a run."""
    return Path(mounts.find_cgroup2()) / f"kmesh-bench-{pid}"
