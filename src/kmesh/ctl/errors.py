"""Errors that only ``kmeshctl`` knows."""

from __future__ import annotations

from kmesh.errors import KmeshError


class NotInThisBuild(KmeshError):
    """The subject of a command does not exist in this build."""

    code = "KM1712"
    next_step = "See docs/cli.md for what this build has instead."


class SomeFailed(KmeshError):
    """Some of the agents that were asked could not do it; the others have done it."""

    code = "KM1713"
    next_step = "Each agent's own error stands above; run the command again for those."


class WaypointError(KmeshError):
    """A waypoint cannot be made, found or enrolled."""

    code = "KM1714"
    next_step = "See `kmeshctl waypoint status`."
