"""kmesh check against a stand-in for the agent."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kmesh import __version__
from kmesh.cli.main import main
from tests.cli.agents import fake_agent
from tests.core.test_health import POD, state

if TYPE_CHECKING:
    from pathlib import Path

WELL: dict[str, Any] = {"/state": {**state(), "version": __version__}, "/enrol": [POD]}


def check(run_dir: Path, *options: str) -> int:
    return main(["check", "--run-dir", str(run_dir), *options])


def test_healthy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with fake_agent(tmp_path, WELL):
        assert check(tmp_path) == 0
    assert capsys.readouterr().out == (
        "Healthy: in sync with the control plane; 1 pod enrolled; 1 service, 2 workloads and "
        "0 policies in force.\n"
    )


def test_not_healthy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ill = {**state(failing={"10.0.0.1": "no [room]"}, writer__failures=3), "version": __version__}
    with fake_agent(tmp_path, {"/state": ill, "/enrol": []}):
        assert check(tmp_path) == 1
        assert (
            capsys.readouterr().out
            == """\
Not healthy: 10.0.0.1 cannot be written: no [room].
  problem: 10.0.0.1 cannot be written: no [room]
    The old state of it stays; the sentence names the option when a limit is reached.
  note: 3 writes to kernel tables failed and were repeated
    See the log.
"""
        )
        assert check(tmp_path, "-o", "json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["healthy"], [each["level"] for each in found["findings"]]) == (
        False, ["problem", "note"],
    )  # fmt: skip


def test_an_agent_of_another_version_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_agent(tmp_path, {**WELL, "/state": {**state(), "version": "0.0.9"}}):
        assert check(tmp_path) == 0
    assert f"the agent is version 0.0.9, this command {__version__}" in capsys.readouterr().out


def test_enrolments_that_this_address_does_not_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_agent(tmp_path, {"/state": WELL["/state"]}):
        assert check(tmp_path) == 0
    assert "1 pod enrolled" in capsys.readouterr().out


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path) == 1
    assert "KM1701 no agent answers at" in capsys.readouterr().err


def test_waits_until_it_is_healthy(tmp_path: Path) -> None:
    answers = {**WELL, "/state": {**state(synced=False), "version": __version__}}
    with fake_agent(tmp_path, answers) as agent:
        done: list[int] = []
        waiter = threading.Thread(target=lambda: done.append(check(tmp_path, "--wait", "60")))
        waiter.start()
        while not agent.asked:
            waiter.join(0.01)
        assert not done
        answers["/state"] = WELL["/state"]
        waiter.join(30)
        assert done == [0]


def test_waits_for_an_agent_that_comes(tmp_path: Path) -> None:
    done: list[int] = []
    waiter = threading.Thread(target=lambda: done.append(check(tmp_path, "--wait", "60")))
    waiter.start()
    with fake_agent(tmp_path, WELL):
        waiter.join(30)
    assert done == [0]


def test_does_not_wait_for_ever(tmp_path: Path) -> None:
    with fake_agent(tmp_path, {**WELL, "/state": state(synced=False)}):
        assert check(tmp_path, "--wait", "0.1") == 1


@pytest.mark.parametrize("wrong", ["-1", "soon", "nan", "1e9"])
def test_wrong_waits(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(SystemExit) as caught:
        check(tmp_path, f"--wait={wrong}")
    assert caught.value.code == 2
