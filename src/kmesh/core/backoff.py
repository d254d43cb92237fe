"""How long to wait before the next connection attempt: doubling with full jitter."""

from __future__ import annotations

from typing import NamedTuple

FIRST = 0.010
CAP = 15.0


class Backoff(NamedTuple):
    """The state between two attempts; all times in seconds. A wait is drawn from 0 … ``ceiling``.

    Full jitter, because 1,000 nodes lose the same control plane in the same millisecond.
    """

    ceiling: float = FIRST
    first: float = FIRST
    cap: float = CAP

    def ended(self, lived: float, answered: bool) -> Backoff:
        """State for the wait after a stream that existed ``lived`` seconds.

        Only a stream that answered and outlived ``cap`` starts the series again: a control plane
        that answers and falls over at once must not be asked for everything every 10 ms.
        """
        return self._replace(ceiling=self.first) if answered and lived >= self.cap else self

    def wait(self, random: float) -> tuple[float, Backoff]:
        """(seconds to wait, state afterwards) for ``random`` drawn from [0, 1)."""
        return self.ceiling * random, self._replace(ceiling=min(self.cap, self.ceiling * 2))
