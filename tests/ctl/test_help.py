"""Help of every command, word by word, and completion in a real shell.

When help changes on purpose: ``python -m tests.ctl.test_help`` writes the files again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmesh.cli import complete
from kmesh.ctl.main import build, main

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parent / "golden"


def commands(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Every command with the words that lead to it."""
    yield words, parser
    for name, each in (complete._commands(parser) or {}).items():
        yield from commands(each, (*words, name))


ALL = list(commands(build()))


def golden(words: tuple[str, ...]) -> Path:
    return GOLDEN / f"{'_'.join(('kmeshctl', *words))}.txt"


@pytest.mark.parametrize(("words", "parser"), ALL, ids=lambda case: str(case)[:40])
def test_help(words: tuple[str, ...], parser: argparse.ArgumentParser) -> None:
    assert parser.format_help() == golden(words).read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {golden(words).name for words, _ in ALL}


@pytest.mark.parametrize(("words", "parser"), ALL, ids=lambda case: str(case)[:40])
def test_help_is_as_good_as_a_manual(
    words: tuple[str, ...], parser: argparse.ArgumentParser
) -> None:
    assert parser.description
    assert parser.description.endswith(".")
    for action in parser._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action
    assert all(len(line) <= 100 for line in parser.format_help().splitlines())
    if words[:1] != ("secret",):
        epilog = parser.epilog or ""
        assert epilog.startswith("examples:\n")
        assert " ".join(("kmeshctl", *words[:1])) in epilog


def test_examples_parse() -> None:
    """What help shows as an example is a command that exists."""
    for _, parser in ALL:
        for line in (parser.epilog or "").splitlines():
            if line.startswith("  kmeshctl "):
                example = line.strip().split("   ")[0].partition(" > ")[0]
                build().parse_args(example.split()[1:])


def test_help_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--kubectl", "/no/kubectl", "waypoint", "apply", "--help"])
    assert caught.value.code == 0
    assert "server-side" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("wayp", "waypoint"),
        ("waypoint ", "apply delete generate list status"),
        ("waypoint generate --for ", "all none service workload"),
        ("waypoint generate --for s", "service"),
        ("waypoint generate --for=w", "--for=workload"),
        ("waypoint list --a", "--address --all-namespaces"),
        ("dump dual", "dual-engine"),
        ("dump kmesh-a k", "kernel-native"),
        ("dump kmesh-a dual-engine -o ", "json table yaml"),
        ("--context x aut", "authz"),
        ("--context ", ""),
        ("completion ", "bash fish zsh"),
        ("secret get --no", ""),
    ],
)
def test_candidates(line: str, found: str) -> None:
    assert complete.candidates(build(), line.split(" ")) == found.split()


def test_the_program_answers_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["__complete", "authz", "st"]) == 0
    assert capsys.readouterr().out == "status\n"
    assert main(["__complete", "authz", "zz"]) == 0
    assert capsys.readouterr().out == ""


def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    program = tmp_path / "kmeshctl"
    code = "import sys; from kmesh.ctl.main import main; sys.exit(main())"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "script").write_text(
        f"PATH={tmp_path}:$PATH\n{capsys.readouterr().out}\n"
        "COMP_WORDS=(kmeshctl waypoint generate --for '')\nCOMP_CWORD=4\n"
        "compopt() { :; }\n_kmeshctl_complete\n"
        'echo "${COMPREPLY[@]}"\ncomplete -p kmeshctl\n'
    )
    done = subprocess.run(
        ["bash", str(tmp_path / "script")], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == (
        "all none service workload\ncomplete -F _kmeshctl_complete kmeshctl\n"
    ), done.stderr


@pytest.mark.parametrize("shell", complete.SHELLS)
def test_scripts_ask_the_program(shell: str) -> None:
    assert "kmeshctl __complete" in complete.script("kmeshctl", shell)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.iterdir():
        old.unlink()
    for each, command in ALL:
        golden(each).write_text(command.format_help())
