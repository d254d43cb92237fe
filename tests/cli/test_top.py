"""kmesh top: its screens to the letter, its keys, and a real terminal."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from kmesh.cli.main import main
from kmesh.cli.top_live import keys
from kmesh.cli.top_screen import WORKLOADS, View, press, query, screen
from kmesh.cli.units import byte_rate, milliseconds, rate
from kmesh.tasks.top import Top, parse
from tests.cli.agents import fake_agent
from tests.page.mesh import Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.agents import FakeAgent

GOLDEN = Path(__file__).parent / "golden"
WITHIN = 20.0


def answer(asked: dict[str, str] | None = None) -> dict[str, Any]:
    """What an agent would answer, as JSON makes it."""
    node = Node()

    async def ask() -> dict[str, Any]:
        top = Top(node.sources(), lambda: node.now)
        await top.view(parse(asked or {}))
        node.tick(5.0)
        return await top.view(parse(asked or {}))

    found = anyio.run(ask)
    found["version"] = "0.0.0"
    return dict(orjson.loads(orjson.dumps(found)))


def drawn(found: dict[str, Any], view: View, rows: int = 20, width: int = 120) -> str:
    """A screen as text."""
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    console.print(screen(found, view, rows))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


@pytest.mark.parametrize(
    ("name", "view", "asked"),
    [
        ("services", View(), {"sort": "connections"}),
        ("failed", View(sort="failed", words="pay"), {"sort": "failed", "q": "pay"}),
        ("workloads", View(WORKLOADS), {"limit": "0"}),
    ],
)
def test_the_screens_are_as_they_were(name: str, view: View, asked: dict[str, str]) -> None:
    shown = drawn(answer(asked), view)
    golden = GOLDEN / f"top-{name}.txt"
    if os.environ.get("KMESH_GOLDEN") == "write":
        golden.write_text(shown)
    assert shown == golden.read_text(), "KMESH_GOLDEN=write accepts the new screen"


def test_what_is_not_counted_is_a_dash_and_said() -> None:
    node = Node(traffic=False)
    found = anyio.run(Top(node.sources(), lambda: node.now).view, parse({}))
    shown = drawn(found, View())
    assert "absent: " in shown
    assert "connections/s -" in shown
    assert "rates come with the next sample" in shown


def test_names_are_not_markup() -> None:
    found = answer()
    found["services"]["rows"][0]["hostname"] = "[red]host[/]"
    found["services"]["rows"][0]["key"] = "x/[red]host[/]"
    assert "x/[red]host[/]" in drawn(found, View())


def test_keys_sort_filter_page_and_switch() -> None:
    view = View()
    assert press(view, "f", 10).sort == "failed"
    assert press(press(view, "w", 10), "w", 10) == view
    assert press(view, "pagedown", 10).offset == 10
    assert press(view._replace(offset=3), "pageup", 10).offset == 0
    assert press(view, "+", 10).window == 15
    assert press(view, "-", 10).window == 5
    assert press(view, " ", 10).paused
    assert press(view, "q", 10).done
    typed = view
    for key in ("/", "p", "x", "backspace", "a", "q"):
        typed = press(typed, key, 10)
    assert typed.editing == typed.words == "paq"
    kept = press(typed, "enter", 10)
    assert (kept.editing, kept.words, kept.done) == (None, "paq", False)
    assert press(typed, "escape", 10).words == ""
    assert press(typed, "ctrl-c", 10).done


PRESSED = ("n", "c", "/", "w", " ", "up", "down", "x", "enter", "escape", "pagedown", "home", "+",
           "-", "backspace", "j", "\u00e9")  # fmt: skip


@given(st.lists(st.sampled_from(PRESSED)))
def test_any_keys_give_a_view_that_can_be_asked_and_drawn(pressed: list[str]) -> None:
    view = View()
    for key in pressed:
        view = press(view, key, 10)
    parse({name: str(value) for name, value in query(view, 10).items()})
    assert view.offset >= 0


def test_what_a_terminal_sends() -> None:
    assert keys(b"a\x1b[A\x1b[6~q") == ["a", "up", "pagedown", "q"]
    assert keys(b"\x1b") == ["escape"]
    assert keys(b"\x1b[200~x") == ["x"]
    assert keys("é/".encode()) == ["é", "/"]
    assert keys(b"\xff\xfe") == []


@given(st.binary(max_size=64))
def test_any_bytes_of_a_terminal_come_to_an_end(raw: bytes) -> None:
    assert all(isinstance(key, str) for key in keys(raw))


def test_units() -> None:
    assert [rate(v) for v in (None, 0, 0.001, 1.5, 12.34, 5678)] == [
        "-", "0", "<0.01", "1.5", "12.3", "5,678",
    ]  # fmt: skip
    assert [byte_rate(v) for v in (None, 0, 900, 1536, 5 << 20)] == [
        "-", "0", "900 B/s", "1.5 KiB/s", "5 MiB/s",
    ]  # fmt: skip
    assert [milliseconds(v) for v in (None, 0, 0.4, 2.5, 3000)] == [
        "-", "0", "400 us", "2.5 ms", "3 s",
    ]  # fmt: skip


@contextmanager
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with fake_agent(tmp_path, {"/top": answer()}) as found:
        yield found


def test_once_prints_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with agent(tmp_path) as found:
        assert main(["top", "--once", "--sort", "failed", "--run-dir", str(tmp_path)]) == 0
        assert found.asked[0][2]["sort"] == "failed"
    shown = capsys.readouterr().out
    assert "shop/payments " in shown
    assert "q quit" not in shown


def test_once_waits_for_the_second_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {**answer(), "seconds": None}
    waited: list[float] = []
    with fake_agent(tmp_path, {"/top": first}) as found:

        def wait(seconds: float) -> None:
            waited.append(seconds)
            found.answers["/top"] = answer()

        monkeypatch.setattr("kmesh.cli.top.time.sleep", wait)
        assert main(["top", "-o", "json", "--window", "2", "--run-dir", str(tmp_path)]) == 0
    assert waited == [2.0]
    assert orjson.loads(capsys.readouterr().out)["seconds"] == 5.0


def test_no_agent_and_wrong_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--run-dir", str(tmp_path)]) == 1
    assert "KM1701" in capsys.readouterr().err
    for wrong in (["--window", "0"], ["--limit", "0"], ["--sort", "size"], ["--limit", "x"]):
        with pytest.raises(SystemExit) as ended:
            main(["top", *wrong])
        assert ended.value.code == 2


def test_a_real_terminal_filters_by_keys_and_is_put_back(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with agent(tmp_path) as found:
        command = [sys.executable, "-m", "kmesh", "top", "--run-dir", str(tmp_path)]
        process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
        )  # fmt: skip
        os.close(slave)
        shown = read(master, b"shop/catalog")
        assert b"\x1b[?1049h" in shown  # the screen of its own
        os.write(master, b"f/pay\r")
        deadline = time.monotonic() + WITHIN
        while found.asked[-1][2].get("q") != "pay":
            assert time.monotonic() < deadline, found.asked
            read(master, b"")
        assert found.asked[-1][2]["sort"] == "failed"
        os.write(master, b"q")
        assert b"\x1b[?1049l" in read(master, b"\x1b[?1049l")
        assert process.wait(WITHIN) == 0
    os.close(master)


def read(fd: int, until: bytes) -> bytes:
    """What a terminal shows up to some bytes; at least one read."""
    shown = os.read(fd, 65536)
    while until not in shown:
        shown += os.read(fd, 65536)
    return shown
