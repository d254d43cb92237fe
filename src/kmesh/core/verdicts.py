"""What a look at a machine finds, one line at a time."""

from __future__ import annotations

from typing import NamedTuple

OK, INFO, WARNING, FAILED = "ok", "info", "warning", "failed"


class Verdict(NamedTuple):
    """One thing looked at. ``level``: ok, info, warning (something is lost) or failed (the agent
    cannot work). ``means`` and ``next_step`` are empty when all is well."""

    group: str
    name: str
    level: str
    found: str
    means: str = ""
    next_step: str = ""
