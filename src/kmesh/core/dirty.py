"""Which frontends must be planned again, and in which of two passes (see plan.order)."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kmesh.core.store import Frontend

EXACT = 128


class _Cidrs:
    """Address ranges by prefix length, so that the next ones are found without a look at all."""

    def __init__(self) -> None:
        self._lengths: dict[int, dict[Frontend, None]] = {}

    def add(self, frontend: Frontend) -> None:
        self._lengths.setdefault(frontend[1], {})[frontend] = None

    def discard(self, frontend: Frontend) -> None:
        if not self._lengths:
            return
        same = self._lengths.get(frontend[1])
        if same is not None and frontend in same:
            del same[frontend]
            if not same:
                del self._lengths[frontend[1]]

    def first(self, most: int, *, longest: bool) -> list[Frontend]:
        """At most so many, the longest or the shortest prefixes first."""
        ordered = sorted(self._lengths, reverse=longest)
        return list(islice(chain.from_iterable(self._lengths[one] for one in ordered), most))

    def __contains__(self, frontend: Frontend) -> bool:
        return frontend in self._lengths.get(frontend[1], ())

    def __len__(self) -> int:
        return sum(map(len, self._lengths.values()))


class Dirty:
    """Frontends in the order in which they became dirty, exact addresses before CIDRs.

    As long as a CIDR is dirty there are two passes: puts, down to the shortest prefix, then drops
    from there upwards.
    """

    def __init__(self) -> None:
        self._exact: dict[Frontend, int] = {}
        self._cidrs = _Cidrs()
        self._to_drop = _Cidrs()
        self.batch = 0

    def add(self, frontends: Iterable[Frontend]) -> None:
        """These must be planned (again); ``batch`` counts the calls."""
        self.batch += 1
        batch = self.batch
        for frontend in frontends:
            if frontend[1] == EXACT:
                self._exact.setdefault(frontend, batch)
            else:
                self._cidrs.add(frontend)

    def discard(self, frontend: Frontend) -> None:
        """It need not be planned any more."""
        self._exact.pop(frontend, None)
        self._cidrs.discard(frontend)
        self._to_drop.discard(frontend)

    def planned(self, frontend: Frontend, drops: bool) -> None:
        """It was planned; without ``drops`` it comes again in the second pass."""
        self.discard(frontend)
        if not drops:
            self._to_drop.add(frontend)

    def past(self, batch: int) -> bool:
        """Whether all of this batch and those before it was planned since; ranges have no batch."""
        oldest = next(iter(self._exact.values()), batch + 1)
        return oldest > batch and not self._cidrs and not self._to_drop

    def next(self, most: int) -> tuple[list[Frontend], bool]:
        """At most so many frontends to plan next, and whether to drop as well as put."""
        if self._exact:
            drops = not self._cidrs and not self._to_drop
            return list(islice(self._exact, most)), drops
        if self._cidrs:
            return self._cidrs.first(most, longest=True), False
        return self._to_drop.first(most, longest=False), True

    def __contains__(self, frontend: Frontend) -> bool:
        return frontend in self._exact or frontend in self._cidrs or frontend in self._to_drop

    def __len__(self) -> int:
        return len(self._exact) + len(self._cidrs) + len(self._to_drop)
