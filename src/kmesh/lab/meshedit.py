"""Edits of a mesh file as an operator would make them: order and comments stay."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from kmesh.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path


def remove_workload(path: Path, name: str) -> None:
    """Take a workload out; raises LabError when there is none of that name."""
    document, workload = _find(path, name)
    document["workloads"].remove(workload)
    _write(path, document)


def add_workload(path: Path, like: str, name: str, addresses: list[str]) -> None:
    """Add a workload that differs from another in name and addresses."""
    document, pattern = _find(path, like)
    workload = dict(pattern)
    workload["name"], workload["workloadIps"] = name, addresses
    if "uid" in pattern:
        workload["uid"] = str(pattern["uid"]).removesuffix(like) + name
    document["workloads"].append(workload)
    _write(path, document)


def _find(path: Path, name: str) -> tuple[Any, Any]:
    document = YAML().load(path.read_text())
    for workload in document["workloads"]:
        if workload["name"] == name:
            return document, workload
    raise LabError(f"{path}: no workload {name!r}", "Use the demo's own mesh file.")


def _write(path: Path, document: Any) -> None:
    buffer = io.StringIO()
    YAML().dump(document, buffer)
    new = path.with_suffix(".new")
    new.write_text(buffer.getvalue())
    new.replace(path)
