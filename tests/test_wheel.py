"""What a wheel holds: everything that the agent needs at run time, and nothing of the tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parent.parent
BUILT = shutil.ignore_patterns("__pycache__", "*.o", "*.so", "*.egg-info", "_native.c")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in a wheel that is built from the sources alone."""
    where = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "src", where / "tree" / "src", ignore=BUILT)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "LICENSE-BPF"):
        shutil.copy(ROOT / name, where / "tree" / name)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps"]
    done = subprocess.run(
        [*pip, "-w", str(where), str(where / "tree")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = where.glob("kmesh-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def named(files: Iterable[str], suffix: str) -> set[str]:
    return {Path(name).name for name in files if name.endswith(suffix)}


def test_every_bpf_object_is_in_the_wheel(files: set[str]) -> None:
    sources = {path.name for path in (ROOT / "src/kmesh/bpf_c").glob("*.bpf.c")}
    assert sources
    assert named(files, ".bpf.o") == {name.removesuffix("c") + "o" for name in sources}


def test_the_extension_and_the_data_files_are_in_the_wheel(files: set[str]) -> None:
    assert named(files, ".abi3.so") == {"_native.abi3.so"}
    kinds = (".py", ".yaml", ".typed", ".html", ".css", ".js")
    wanted = [path for path in (ROOT / "src/kmesh").rglob("*") if path.suffix in kinds]
    missing = {str(path.relative_to(ROOT / "src")) for path in wanted} - files
    assert wanted
    assert not missing


def test_nothing_else_is_in_the_wheel(files: set[str]) -> None:
    tops = {name.split("/", 1)[0].partition("-")[0] for name in files}
    assert tops == {"kmesh"}
