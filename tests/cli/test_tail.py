"""kmesh tail against a stand-in for the agent."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from kmesh.cli.main import main
from kmesh.core.live import view, who
from tests.cli.agents import fake_agent
from tests.core.test_live import DENIAL, LABELS, OUTBOUND

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

LINES = "\n".join(
    [
        "",
        *(json.dumps(view(record, who(record, LABELS), 0)) for record in (DENIAL, OUTBOUND)),
        '{"dropped": 2}',
    ]
)


def tail(run_dir: Path, *options: str) -> int:
    return main(["tail", "--run-dir", str(run_dir), *options])


def test_lines_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with fake_agent(tmp_path, {"/events": LINES.encode()}):
        assert tail(tmp_path) == 1, "the agent ended"
    said = capsys.readouterr()
    denied, closed, dropped = said.out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:02\.000 denied     tcp shop/client .*", denied)
    assert "closed     tcp outbound" in closed
    assert "2 records left out" in dropped
    assert re.search(r"KM1701 the agent at .* has\s+ended", said.err)


def test_lines_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with fake_agent(tmp_path, {"/events": LINES.encode()}) as agent:
        assert tail(tmp_path, "-o", "json", "-n", "2", "--pod", "shop/client", "--denied") == 0
        query = {"pod": "shop/client", "limit": "2", "denied": "1"}
        assert agent.asked == [("GET", "/events", query, b"")]
    kinds = [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["denied", "close"]


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tail(tmp_path) == 1
    assert "KM1701" in capsys.readouterr().err


def test_what_the_agent_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = {"code": "KM1706", "error": "8 follow the events already", "next_step": "Wait."}
    with fake_agent(tmp_path, {"/events": (400, problem)}):
        assert tail(tmp_path) == 1
    assert "KM1706 GET /events: 8 follow the events already" in capsys.readouterr().err
