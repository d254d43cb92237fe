"""``kmesh lab`` as a user types it."""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.cli import lab
from kmesh.lab import netns

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]
DEMO = Path(__file__).parents[2] / "examples" / "demo.yaml"
NUMBERS = itertools.count()


class Command:
    """Runs one command line; gives exit status and what it printed."""

    def __init__(self, run_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.name = f"c{os.getpid()}x{next(NUMBERS)}"
        self._common = ["--name", self.name, "--run-dir", str(run_dir)]
        self._capfd = capfd

    def __call__(self, *words: str) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser()
        lab.add_parser(parser.add_subparsers())
        args = parser.parse_args(["lab", *words, *self._common])
        self._capfd.readouterr()
        status = args.run(args)
        out, err = self._capfd.readouterr()
        return status, out, err

    def json(self, *words: str) -> tuple[int, Any]:
        status, out, _ = self(*words, "--json")
        return status, json.loads(out)


@pytest.fixture
def command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    made = Command(tmp_path / "run", capfd)
    yield made
    made("down")
    assert netns.existing(made.name) == []


def test_a_session_in_json(command: Command) -> None:
    status, up = command.json("up", "--mesh", str(DEMO))
    assert (status, up["up"], len(up["pods"])) == (0, True, 4)
    assert "daemon not reachable" in up["warnings"][0]
    status, report = command.json("connect", "client", "10.244.1.12:8080", "-n", "10")
    assert (status, report["ok"], report["answers"]) == (0, True, {"web-2": 10})
    status, report = command.json("connect", "client", "web:80", "-n", "3", "-6")
    assert (status, report["ok"], report["errors"]) == (1, False, {"ENETUNREACH": 3})
    assert report["target"] == "[fd00:96::10]:80"
    _, now = command.json("status")
    assert [pod["server"] for pod in now["pods"]] == ["alive"] * 4
    status, down = command.json("down")
    assert (status, len(down["removed"])) == (0, 9)
    status, now = command.json("status")
    assert (status, now["up"]) == (0, False)


def test_a_session_in_words(command: Command) -> None:
    status, out, err = command("up", "--mesh", str(DEMO))
    assert status == 0
    assert "web-3" in out
    assert "warning not enrolled: daemon not reachable at" in err
    assert "Start it with `kmesh daemon`" in err
    status, out, _ = command("connect", "client", "[fd00:244:1::11]:5353", "--udp", "-n", "4")
    assert status == 0
    assert "web-1" in out
    assert "client to [fd00:244:1::11]:5353" in out
    status, out, _ = command("connect", "client", "10.244.1.11:1", "-n", "2")
    assert status == 1
    assert "ECONNREFUSED" in out
    status, out, _ = command("down")
    assert "nothing left" in out
    assert command("down")[1] == f"there was no lab {command.name}\n"


def test_errors(command: Command) -> None:
    status, out, err = command("connect", "client", "web:80")
    assert (status, out) == (1, "")
    assert "KM1003 there is no lab" in err
    assert "Make it with `kmesh lab up`." in err
    status, error = command.json("up", "--mesh", "/nonexistent.yaml")
    assert (status, error["code"]) == (1, "KM1002")
    status, error = command.json("up", "--mesh", str(DEMO), "--enrol", "required")
    assert status == 1
    assert "daemon not reachable" in error["error"]
    status, error = command.json("connect", "client", "web:80", "--udp", "--keep", "1")
    assert (status, error["next_step"]) == (1, "Leave it out.")
