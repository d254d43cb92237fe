"""Rules about imports that import-linter cannot say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import kmesh

PACKAGE = Path(kmesh.__file__).parent
EXTENSION = "kmesh._native"


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "gen" not in path.parts)


def imported(source: str) -> set[str]:
    """Full names of everything a module's text imports, at any depth."""
    names = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def within(names: set[str], package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in names)


def test_the_search_finds_every_form_of_import() -> None:
    for text in (
        "import kmesh._native",
        "from kmesh import _native",
        "from kmesh._native import lib",
        "def f():\n    from kmesh._native import ffi as x",
    ):
        assert within(imported(text), EXTENSION), text
    assert not within(imported("import kmesh._native_other"), EXTENSION)


def test_only_the_adapters_touch_the_c_extension() -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if within(imported(path.read_text()), EXTENSION)
    }
    assert "bpf/lib/maps.py" in users, "the search found nothing"
    strangers = {name for name in users if not name.startswith(("wire/", "bpf/lib/"))} - {
        "bpf/lines.py",
        "bpf/query.py",
        "bpf/ring.py",
    }
    assert strangers == set()


@pytest.mark.parametrize("ring", ["core", "abi"])
def test_the_pure_rings_import_only_each_other_and_pure_modules(ring: str) -> None:
    pure = {
        "__future__", "ast", "bisect", "collections", "dataclasses", "enum", "errno", "functools",
        "hashlib", "heapq", "ipaddress", "itertools", "json", "math", "re", "struct", "typing",
        "urllib.parse",
    }  # fmt: skip
    for path in (PACKAGE / ring).glob("*.py"):
        for name in imported(path.read_text()):
            inside = within({name}, "kmesh.core") or within({name}, "kmesh.abi")
            standard = any(within({name}, each) for each in pure)
            assert inside or standard or name.startswith("kmesh.errors"), (path.name, name)


def test_relative_imports_are_not_used() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


def test_the_map_of_modules_names_files_that_are_there() -> None:
    root = Path(__file__).parents[1]
    named = set(re.findall(r"`([\w/.]+/[\w.]*)`", (root / "docs/development.md").read_text()))
    assert len(named) > 60, "the search found nothing"
    places = root, root / "src/kmesh"
    missing = {name for name in named if not any((place / name).exists() for place in places)}
    assert missing == set()
