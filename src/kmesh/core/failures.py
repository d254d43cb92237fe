"""What could not be written: the old rows stay, and it is tried again later."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kmesh.core.commands import Owner

FIRST_RETRY, LAST_RETRY = 0.05, 5.0


class Failure(NamedTuple):
    """A frontend or pod that could not be written: how often, when it is tried again, why."""

    attempts: int
    due: float
    why: str


class Failures(dict["Owner", Failure]):
    """By owner; times are seconds of a monotonic clock."""

    def note(self, owner: Owner, why: str, now: float) -> None:
        """It failed, perhaps once more."""
        attempts = self[owner].attempts + 1 if owner in self else 1
        wait = min(FIRST_RETRY * 2 ** (attempts - 1), LAST_RETRY)
        self[owner] = Failure(attempts, now + wait, why)

    def next_due(self) -> float:
        """When the next one is to be tried again; inf when there is none."""
        return min((failure.due for failure in self.values()), default=inf)

    def revive(self, now: float) -> list[Owner]:
        """Those that are to be tried again now, each told once."""
        due = [owner for owner, failure in self.items() if failure.due <= now]
        for owner in due:
            self[owner] = self[owner]._replace(due=inf)
        return due

    def waits(self, owner: Owner) -> bool:
        """Whether it failed and its time has not come."""
        return owner in self and self[owner].due != inf
