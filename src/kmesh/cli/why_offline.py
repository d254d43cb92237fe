"""The question of ``kmesh why`` to a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kmesh.cli.bundle.read import Bundle
from kmesh.cli.bundle.replay import replay
from kmesh.tasks.why import explain

if TYPE_CHECKING:
    from pathlib import Path


def ask_bundle(path: Path, source: str, destination: str) -> dict[str, Any]:
    """The answer, as GET /why gives it. Raises BundleError when the bundle is damaged or lacks a
    part, UnknownEnd as the agent does."""
    made = replay(Bundle(path))
    kernel, planned = made.kernel.copy(), made.planned.copy()
    return explain(made.steering, kernel, source, destination, planned)
