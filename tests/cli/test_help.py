"""Help of the commands for operators, word by word, and what docs/cli.md says of them.

When help changes on purpose: ``python -m tests.cli.test_help`` writes the files again.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from kmesh.cli import (
    bundle,
    check,
    complete,
    diff,
    doctor,
    explain,
    layout,
    tail,
    top,
    uninstall,
    why,
)
from kmesh.cli.main import main

GOLDEN = Path(__file__).parent / "golden"
DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The commands by name."""
    commands = argparse.ArgumentParser(prog="kmesh", **layout.shape("", "")).add_subparsers()
    for module in (check, doctor, tail, bundle, explain, diff, top, uninstall, why):
        module.add_parser(commands)
    complete.add_parser(commands, "kmesh")
    found: dict[str, argparse.ArgumentParser] = dict(commands.choices)
    return found


@pytest.mark.parametrize("name", parsers())
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == (GOLDEN / f"kmesh_{name}.txt").read_text()


@pytest.mark.parametrize(("name", "parser"), parsers().items())
def test_help_is_as_good_as_a_manual(name: str, parser: argparse.ArgumentParser) -> None:
    assert all(action.help for action in parser._actions)
    assert (parser.description or "").endswith(".") or name == "completion"
    assert (parser.epilog or "").startswith("examples:\n  ")
    for line in (parser.epilog or "").splitlines():
        if line.startswith(f"  kmesh {name}"):
            words = re.split(r"\s{2,}| \||  >| >", line.strip())[0].split()
            parser.parse_args(words[2:])


def test_every_command_is_documented() -> None:
    text = DOCS.read_text()
    for name in parsers():
        assert f"kmesh {name}" in text, name


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each, command in parsers().items():
        (GOLDEN / f"kmesh_{each}.txt").write_text(command.format_help())
