"""Addresses whose workload was removed, until what is still bound to them is to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.core.claims import HOST_NETWORK

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.core.model import Workload


class Draining:
    """``delay`` in seconds, None never; ``namespaces`` of the workloads it is for, none for all.

    Times are arguments. An address that another workload has by then is left alone, and so are
    those of workloads on the host's network: they are not theirs alone.
    """

    def __init__(self, delay: float | None, namespaces: frozenset[str]) -> None:
        self._delay, self._namespaces = delay, namespaces
        self._due: dict[bytes, float] = {}

    def __len__(self) -> int:
        """Addresses that wait."""
        return len(self._due)

    def left(self, old: Workload, new: Workload | None, now: float) -> None:
        """A workload is gone, or is ``new`` from now on."""
        if self._delay is None or old.traits & HOST_NETWORK:
            return
        if self._namespaces and old.identity.namespace not in self._namespaces:
            return
        for addr in set(old.addresses).difference(new.addresses if new else ()):
            self._due[addr] = now + self._delay

    def next_due(self) -> float | None:
        """When the first address's time comes; None when none waits."""
        return min(self._due.values(), default=None)

    def take(self, now: float, owned: Callable[[bytes], bool], most: int) -> list[bytes]:
        """The addresses whose time has come and that nobody owns, ``most`` at once."""
        due = [addr for addr, time in self._due.items() if time <= now]
        taken: list[bytes] = []
        for addr in due:
            if len(taken) == most:
                break
            del self._due[addr]
            if not owned(addr):
                taken.append(addr)
        return taken
