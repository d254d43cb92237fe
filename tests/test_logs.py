"""Log lines as text and as JSON, from a process of their own: pytest has handlers on the root."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys

START = """
import logging, sys
from kmesh import logs
logs.configure(sys.argv[1], sys.argv[2])
log = logging.getLogger("kmesh.tasks.writer")
"""


def logged(level: str, form: str, code: str) -> str:
    """What the code writes to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", START + code, level, form],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "", "standard output is for results"
    return done.stderr


def test_json_lines_have_level_time_scope_and_message() -> None:
    found = json.loads(logged("info", "json", "log.warning('grown: %d records', 5)"))
    when = datetime.datetime.fromisoformat(found.pop("time"))
    assert when.tzinfo is not None
    assert found == {
        "level": "warning", "scope": "kmesh.tasks.writer", "message": "grown: 5 records",
    }  # fmt: skip


def test_an_exception_is_one_line_too() -> None:
    code = "try:\n    raise ValueError('a\\nb')\nexcept ValueError:\n    log.exception('broken')"
    text = logged("info", "json", code)
    assert text.count("\n") == 1
    assert "ValueError: a\nb" in json.loads(text)["exception"]


def test_what_is_not_unicode_is_logged_all_the_same() -> None:
    """Paths and arguments may carry bytes that are no UTF-8."""
    text = logged("info", "json", "log.info('path %s', '/tmp/\\udcff')")
    assert json.loads(text)["message"] == "path /tmp/\\udcff"


def test_text_lines() -> None:
    assert logged("info", "text", "log.info('ready')").endswith(" INFO kmesh.tasks.writer: ready\n")


def test_levels_below_are_left_out() -> None:
    assert logged("error", "text", "log.warning('quiet')") == ""
