"""``kmesh uninstall --verify`` as people run it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.bpf import load, removal
from kmesh.cli.main import main
from tests.kernel.conftest import bpffs as bpffs
from tests.kernel.mesh import SMALL

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.kernel


def uninstall(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, Any]]:
    """Exit status and the JSON on standard output."""
    status = main(["uninstall", "--json", *flags])
    return status, json.loads(capsys.readouterr().out)


def test_verified(bpffs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load.start(bpffs, "", SMALL).close()
    flags = ("--verify", "--bpf-fs-path", bpffs, "--run-dir", str(tmp_path))
    status, found = uninstall(capsys, *flags)
    assert (status, found["left"]) == (0, [])
    assert f"{bpffs}/kmesh/links/connect4" in found["removed"]
    assert uninstall(capsys, *flags)[1]["removed"] == []
    assert main(["uninstall", *flags]) == 0
    assert "verified" in capsys.readouterr().out


def test_what_is_left_is_a_failure(
    bpffs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "left", lambda *_: ["map 7"])
    flags = ("--verify", "--bpf-fs-path", bpffs, "--run-dir", str(tmp_path))
    assert uninstall(capsys, *flags)[0] == 1
    assert main(["uninstall", *flags]) == 1
    assert "KM1503" in capsys.readouterr().err
