"""The operations of a plan, a slice at a time; what failed is tried again before anything later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.core.commands import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kmesh.core.commands import Op
    from kmesh.core.steps import Enough
    from kmesh.core.tables import Outcome

SLICE = 64  # operations, of which some make the kernel allocate memory for every CPU: 2 ms
FIRST_RETRY, LAST_RETRY = 0.05, 5.0


class Slices:
    """``ops`` are those that are to be applied now. ``failing`` says what failed last, ``relink``
    when a namespace that could not be reached is tried again (0 for none)."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.running = False
        self.failing = ""
        self.relink = 0.0
        self._queue: Iterator[Op | None] = iter(())
        self._attempts, self._due = 0, 0.0

    def begin(self, plan: Iterator[Op | None]) -> None:
        """The plan before this one has ended."""
        self._queue = plan

    def waits(self, now: float) -> bool:
        """Whether the time of what failed has not come."""
        return bool(self.ops) and now < self._due

    def ended(self, enough: Enough) -> bool:
        """Fill a slice from the plan; whether there was nothing left in it."""
        self.running = True
        for op in self._queue:
            if op is not None:
                self.ops.append(op)
            if len(self.ops) == SLICE or enough():
                return False
        self.running = bool(self.ops)
        return not self.running

    def report(self, outcome: Outcome, now: float) -> Sequence[Op]:
        """What became of the slice: the operations that are done. From the failed one on they are
        tried again."""
        done, self.ops = self.ops[: outcome.done], self.ops[outcome.done :]
        if outcome.error is None:
            self.failing, self._attempts, self._due = "", 0, 0.0
            return done
        self.failing = str(outcome.error)
        if self.ops and self.ops[0].phase in (Phase.LINK, Phase.UNLINK):
            del self.ops[0]  # one namespace that cannot be reached holds nobody up
            self.relink = now + LAST_RETRY
            return done
        self._due = now + min(FIRST_RETRY * 2**self._attempts, LAST_RETRY)
        self._attempts += 1
        return done

    def revive(self, now: float) -> bool:
        """Whether a namespace that could not be reached is to be tried again now; told once."""
        due = bool(self.relink) and now >= self.relink
        if due:
            self.relink = 0.0
        return due

    def times(self) -> list[float]:
        """When something that failed is to be tried again."""
        times = [self._due] if self.ops and self._due else []
        return [*times, self.relink] if self.relink else times
