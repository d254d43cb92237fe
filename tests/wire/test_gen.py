"""The generated classes are what protos/ says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/gen_protos.py"


def test_generated_code_is_fresh() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("change", ["edited", "extra", "missing"])
def test_staleness_is_noticed(tmp_path: Path, change: str) -> None:
    for part in ("tools", "protos", "src/kmesh/wire/gen"):
        copy = tmp_path / part
        copy.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", ROOT / part, copy], check=True)
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    gen = tmp_path / "src/kmesh/wire/gen"
    victim = gen / "google/rpc/__init__.py"
    if change == "edited":
        victim.write_text(victim.read_text() + "\n")
    elif change == "extra":
        victim = gen / "extra.py"
        victim.write_text("")
    else:
        victim.unlink()
    command: list[str | Path] = [sys.executable, tmp_path / "tools/gen_protos.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"stale: {victim.relative_to(gen)}\n"
