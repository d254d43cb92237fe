"""What can be switched while running. The switches lie in the pinned map km_switch: they outlive
the agent, and the programs read them there.

Options say how switches are at first. A switch that was thrown later stays as it was left, also
over restarts, until the options themselves are changed: then they win.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL = 1 << 16
EMIT, LISTED_ONLY, OPENINGS = 1, 2, 4


class AccessLog(NamedTuple):
    """``on`` for namespaces that are not listed; ``listed`` namespaces are as they say.

    ``openings``: also when a connection opens, and periodically while it is open.
    """

    on: bool = False
    openings: bool = False
    listed: Mapping[str, bool] = {}

    def wants(self, *namespaces: str) -> bool:
        """Whether a connection between workloads of these namespaces is logged: one that is listed
        decides, and among several one that is on."""
        found = [self.listed[name] for name in namespaces if name in self.listed]
        return any(found) if found else self.on

    @property
    def bits(self) -> int:
        """For the programs, which only ask whether there is any."""
        emit = self.on or any(self.listed.values())
        return emit * EMIT | (not self.on) * LISTED_ONLY * emit | self.openings * OPENINGS * emit
