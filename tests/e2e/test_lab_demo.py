"""``kmesh demo``: the story is true, and it leaves nothing behind, also when it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.kernel,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and BPF need root"),
]
COMMAND = [sys.executable, "-m", "kmesh", "demo", "--json"]


def _traces(pid: int) -> list[str]:
    """What a demo of that process id could have left."""
    found = [str(path) for path in Path("/run/netns").glob(f"kmesh-demo{pid}-*")]
    found += [str(path) for path in Path("/tmp").glob(f"kmesh-demo{pid}-*")]
    found += [
        line for line in Path("/proc/mounts").read_text().splitlines() if f"demo{pid}-" in line
    ]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [command] if f"demo{pid}-" in command else []
    return found


def test_every_claim_holds() -> None:
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        out, err = demo.communicate(timeout=200)
    document = json.loads(out)
    assert [one for one in document["claims"] if not one["ok"]] == [], err
    assert len(document["claims"]) == 11
    assert document["ok"] is True
    assert demo.returncode == 0
    assert _traces(demo.pid) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("chapter", ["1/11", "2/11", "9/11"])
def test_stopped_in_the_middle(number: signal.Signals, chapter: str) -> None:
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stderr is not None
        while not (line := demo.stderr.readline()).startswith(chapter):
            assert line, "the demo ended before that chapter"
        demo.send_signal(number)
        out, err = demo.communicate(timeout=200)
    document = json.loads(out)
    assert (document["ok"], document["interrupted"]) == (False, number.name), err
    assert demo.returncode == 130
    assert _traces(demo.pid) == []


def test_keep_runs_on_until_a_signal_and_then_cleans_up() -> None:
    with subprocess.Popen(
        [*COMMAND, "--keep"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stderr is not None
        look = ""
        while "kmesh lab connect" not in look:
            look = demo.stderr.readline()
            assert look, "the demo ended"
        command = look.split()[1:]
        dial = [sys.executable, "-m", "kmesh", *command, "--json"]
        report = json.loads(subprocess.run(dial, check=True, capture_output=True).stdout)
        assert report["ok"] is True
        assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=200)
    document = json.loads(out)
    assert document["ok"] is True, err
    assert demo.returncode == 0
    assert _traces(demo.pid) == []
