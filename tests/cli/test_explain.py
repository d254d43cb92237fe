"""Every error code and every reason has a page, and only one."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from kmesh.abi.layout import Reason
from kmesh.cli import codes
from kmesh.cli.main import main
from kmesh.core.spelt import REASONS, find, spell

ROOT = Path(__file__).parents[2]
PAGES = codes.pages()


def test_every_code_belongs_to_one_class() -> None:
    assert {code: names for code, names in codes.owners().items() if len(names) > 1} == {}


def test_every_code_that_the_source_writes_has_a_page() -> None:
    known = {page.code for page in PAGES}
    for path in codes.sources():
        used = set(re.findall(r"[\"'](KM\d{4})[\"']", path.read_text()))
        assert used <= known, path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_say_what_the_classes_say(page: codes.Page) -> None:
    found = getattr(importlib.import_module(f"kmesh.{page.module}"), page.name)
    assert found.code == page.code
    assert found.next_step == page.next_step
    assert page.meaning.endswith((".", ":"))
    assert page.next_step.endswith((".", "h"))
    assert codes.CODE.fullmatch(page.code)


def test_sentences_come_from_the_source() -> None:
    capacity = next(page for page in PAGES if page.code == "KM1704")
    assert capacity.sentences == ("there is no error code and no reason <code>",)


def test_docs_are_up_to_date() -> None:
    """When this fails: python tools/gen_errors.py"""
    tool = runpy.run_path(str(ROOT / "tools" / "gen_errors.py"))
    assert (ROOT / "docs" / "errors.md").read_text() == tool["render"]()


def test_every_reason_is_spelt() -> None:
    """When this fails: core/spelt.py lacks what bpf_c/reasons.h has."""
    assert set(REASONS) == set(Reason)
    for reason, found in REASONS.items():
        assert found.meaning.endswith("."), reason
        assert not found.next_step or found.next_step.endswith("."), reason


def test_reasons_are_found_in_every_spelling() -> None:
    for name in ("no_endpoint", "NO_ENDPOINT", "no-endpoint"):
        assert find(name) is Reason.NO_ENDPOINT
    assert find("nothing") is None
    assert spell("nothing") == "nothing"
    assert spell("denied") == "A DENY policy matches."


def test_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "km1704"]) == 0
    assert (
        capsys.readouterr().out
        == """\
KM1704  UnknownCode (cli.explain)

  There is no such error code and no such reason.

Said as
  there is no error code and no reason <code>

Next step
  Run `kmesh explain` without an argument for the list.
"""
    )


def test_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "denied"]) == 0
    assert (
        capsys.readouterr().out
        == """\
denied

  A DENY policy matches.

Next step
  `kmesh why SOURCE DESTINATION:PORT` names policy and rule.
"""
    )


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "KM1001", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "ConfigError"
    assert main(["explain", "denied", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "denied"
    assert main(["explain", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["reasons"]) == len(Reason)
    assert {each["code"] for each in found["errors"]} == {page.code for page in PAGES}


def test_the_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len({page.code for page in PAGES}) + 1 + len(Reason)
    assert all(len(line.split()) > 2 or not line for line in lines), lines


def test_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "KM9999"]) == 1
    assert "KM1704 there is no error code and no reason 'KM9999'" in capsys.readouterr().err


def test_the_generator_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gen_errors.py", "--check"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / "tools" / "gen_errors.py"), run_name="__main__")
    assert caught.value.code == 0
