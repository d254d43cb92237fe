"""``kmesh controlplane`` as a process: ready line, edits while it runs, signals."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from kmesh.core.events import ADDRESS
from tests.controlplane.client import delta_client, names

if TYPE_CHECKING:
    from pathlib import Path

MESH = "workloads:\n- {name: a, namespace: n, workloadIps: [], services: {}}\n"
OTHER = MESH.replace("name: a", "name: b")
# The command alone, so that this test does not depend on the other sub-commands.
RUN = """
import argparse, sys
from kmesh.cli import controlplane
parser = argparse.ArgumentParser()
controlplane.add_parser(parser.add_subparsers())
args = parser.parse_args()
sys.exit(args.run(args))
"""


def _start(mesh: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, "controlplane", "--mesh", str(mesh), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


@pytest.mark.anyio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_edits_reach_clients_and_errors_are_shown_once(
    tmp_path: Path, number: signal.Signals
) -> None:
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(MESH)
    with _start(mesh, "--listen", "127.0.0.1:0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        stdout, stderr = process.stdout, process.stderr
        try:
            with anyio.fail_after(60):
                ready = await anyio.to_thread.run_sync(stdout.readline)
                word, _, address = ready.partition(" ")
                assert word == "ready"
                async with delta_client(address.strip()) as client:
                    assert names(await client.first(ADDRESS)) == ["Kubernetes//Pod/n/a"]
                    mesh.write_text("workloads: 3\n")
                    lines = ""
                    while "must be a list" not in lines:
                        lines += await anyio.to_thread.run_sync(stderr.readline)
                    mesh.write_text(OTHER)
                    response = await client.receive()
                    assert names(response) == ["Kubernetes//Pod/n/b"]
                    assert response.removed_resources == ["Kubernetes//Pod/n/a"]
            process.send_signal(number)
            rest = await anyio.to_thread.run_sync(stderr.read)
            assert process.wait(20) == 0
            assert "must be a list" not in rest, "an error is shown once"
            assert "is good again" in rest
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("text", "listen", "part"),
    [
        (None, "127.0.0.1:0", "No such file"),
        ("workloads: 3\n", "127.0.0.1:0", "workloads: must be a list"),
        (MESH, "somewhere", "--listen must be"),
    ],
)
def test_what_cannot_start_says_why(
    tmp_path: Path, text: str | None, listen: str, part: str
) -> None:
    mesh = tmp_path / "mesh.yaml"
    if text is not None:
        mesh.write_text(text)
    with _start(mesh, "--listen", listen) as process:
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert part in errors
