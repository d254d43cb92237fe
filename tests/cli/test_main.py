"""The command line as a user meets it: exit codes, errors with codes and next steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmesh import __version__, config
from kmesh.cli.main import main
from kmesh.options import UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Iterator


UNPRIVILEGED = """
import contextlib, io, os, sys
import kmesh.bpf.load, kmesh.serve
from kmesh.cli.console import show_error
from kmesh.cli.main import main
from kmesh.errors import KmeshError

# What is imported late may lie where only root can read.
with contextlib.redirect_stderr(io.StringIO()):
    show_error(KmeshError("warm"))
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(main(sys.argv[1:]))
"""
BARE = {"PATH": os.environ["PATH"], "COLUMNS": "200"}
BARE |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}


def kmesh(
    *argv: str, nobody: bool = False, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A process of its own, with nothing of this one's environment."""
    start = ["-c", UNPRIVILEGED] if nobody else ["-m", "kmesh"]
    return subprocess.run(
        [sys.executable, *start, *argv], env=BARE | (environ or {}), capture_output=True,
        text=True, check=False, timeout=60, cwd="/",
    )  # fmt: skip


def pins(where: str) -> list[str]:
    """What lies in a bpffs besides the kernel's own files."""
    return sorted(name for name in os.listdir(where) if not name.endswith(".debug"))


@contextmanager
def bpffs(mode: int = 0o755) -> Iterator[str]:
    """A private bpffs below a directory that everybody may enter."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        where = Path(directory) / "bpffs"
        where.mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", str(where)], check=True)
        try:
            where.chmod(mode)
            yield str(where)
        finally:
            subprocess.run(["umount", str(where)], check=True)


def error(done: subprocess.CompletedProcess[str], code: str, status: int = 1) -> str:
    """The one error on standard error, which is no traceback."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith(f"{code} "), done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) >= 2, "an error says what to do next"
    return done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"kmesh {__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["--fly"],
        ["daemon", "--fly"],
        ["daemon", "--max-vip", "3"],
        ["daemon", "extra"],
        ["daemon", "--node-name"],
        ["uninstall", "--fly"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_and_shows_the_usage(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("usage: kmesh")
    assert "error: " in text


@pytest.mark.parametrize("flag", UNAVAILABLE)
def test_flags_of_the_upstream_agent_that_mean_nothing_here_are_errors(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ([flag], [f"{flag}=true"], [flag, "true"]):
        assert main(["daemon", *form]) == 2
        assert f"{flag} is not available in this build" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "environ", "said"),
    [
        (["--max-vips", "many"], {}, "--max-vips 'many'"),
        (["--mode", "kernel-native"], {}, "--mode 'kernel-native'"),
        (["--bpf-fs-path", "here"], {}, "--bpf-fs-path 'here'"),
        ([], {"XDS_ADDRESS": "ftp://x:1"}, "XDS_ADDRESS 'ftp://x:1'"),
    ],
    ids=["number", "mode", "path", "environment"],
)
def test_bad_values_are_wrong_usage_too(
    argv: list[str], environ: dict[str, str], said: str
) -> None:
    assert said in error(kmesh("daemon", *argv, environ=environ), "KM1001", 2)


def test_help_lists_every_option_with_its_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["daemon", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    rows = list(config.table())
    assert len(rows) > 20
    for _, option in rows:
        for name in (option.flag, *option.env):
            assert name in text, name


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for command in ("daemon", "uninstall", "controlplane", "lab", "demo"):
        assert f"\n    {command}" in text
    assert "Exit codes: 0 success, 1 failure, 2 wrong usage" in text


@pytest.mark.parametrize("command", ["daemon", "uninstall", "controlplane", "lab", "demo"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: kmesh {command}")


# What a daemon cannot start without


def test_bpffs_that_is_not_there(tmp_path: Path) -> None:
    text = error(kmesh("daemon", "--bpf-fs-path", str(tmp_path / "none")), "KM1103")
    assert f"--bpf-fs-path {tmp_path}/none does not exist" in text
    assert f"mount -t bpf bpf {tmp_path}/none" in text


def test_bpffs_that_is_not_mounted(tmp_path: Path) -> None:
    text = error(kmesh("daemon", "--bpf-fs-path", str(tmp_path)), "KM1103")
    assert f"--bpf-fs-path {tmp_path} is not a bpf mount" in text
    assert f"mount -t bpf bpf {tmp_path}" in text
    assert list(tmp_path.iterdir()) == []


def test_cgroup2_that_is_not_mounted(tmp_path: Path) -> None:
    with bpffs() as where:
        done = kmesh("daemon", "--bpf-fs-path", where, "--cgroup2-path", str(tmp_path))
        text = error(done, "KM1103")
        assert f"--cgroup2-path {tmp_path} is not a cgroup2 mount" in text
        assert pins(where) == []


def test_without_permission_to_load(tmp_path: Path) -> None:
    """Everybody may write to this bpffs, but not load programs."""
    with bpffs(0o777) as where:
        done = kmesh("daemon", "--bpf-fs-path", where, "--xds-address", "", nobody=True)
        text = error(done, "KM1101")
        assert "EPERM" in text
        assert "CAP_BPF" in text


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_without_permission_to_pin(mode: int) -> None:
    with bpffs(mode) as where:
        done = kmesh("daemon", "--bpf-fs-path", where, "--xds-address", "", nobody=True)
        text = error(done, "KM1101")
        assert f"{where}/kmesh: Permission denied" in text
        assert "runs as root" in text


def test_a_run_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with bpffs() as where:
        place = str(tmp_path / "file" / "run")
        done = kmesh("daemon", "--bpf-fs-path", where, "--xds-address", "", "--run-dir", place,
                     "--log-level", "error")  # fmt: skip
        text = error(done, "KM1302")
        assert f"cannot listen at {place}/kmesh.sock: Not a directory" in text
        assert "--run-dir" in text
        assert kmesh("uninstall", "--bpf-fs-path", where).returncode == 0
        assert pins(where) == []


# The end of it


def test_uninstall_on_nothing() -> None:
    with bpffs() as where:
        done = kmesh("uninstall", "--bpf-fs-path", where)
        assert (done.returncode, done.stdout, done.stderr) == (0, "nothing was pinned\n", "")
        done = kmesh("uninstall", "--bpf-fs-path", where, "--json")
        assert (done.returncode, json.loads(done.stdout)) == (0, {"removed": []})


def test_uninstall_without_permission_does_not_claim_that_nothing_was_pinned() -> None:
    with bpffs() as where:
        (Path(where) / "kmesh").mkdir(mode=0o700)
        assert "Permission denied" in error(
            kmesh("uninstall", "--bpf-fs-path", where, nobody=True), "KM1101"
        )
        Path(where).chmod(0o700)
        assert "Permission denied" in error(
            kmesh("uninstall", "--bpf-fs-path", where, nobody=True), "KM1101"
        )
        assert kmesh("uninstall", "--bpf-fs-path", where).returncode == 0
        assert pins(where) == []
