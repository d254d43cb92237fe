"""Who owns an address when several workloads claim it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.core.model import Trait

if TYPE_CHECKING:
    from kmesh.core.model import Workload

HOST_NETWORK = int(Trait.HOST_NETWORK)


def score(workload: Workload) -> int:
    """ztunnel's score: a pod that speaks HBONE 3, a pod 2, HBONE 1, anything else 0."""
    traits = Trait(workload.traits)
    return 2 * (Trait.POD in traits) + (Trait.HBONE in traits)


class Claims:
    """(network, address) to the uid that owns it; host-network workloads own none.

    The highest score wins, and among equals the one that came last: an address that is used again
    belongs to the new pod although the old one is not yet gone.
    """

    def __init__(self) -> None:
        self._owners: dict[str, dict[bytes, str]] = {}
        self._rivals: dict[tuple[str, bytes], dict[str, int]] = {}

    def put(self, workload: Workload, others: dict[str, Workload]) -> set[str]:
        """Register; returns the uids of all claimants of the addresses that changed hands."""
        if workload.traits & HOST_NETWORK:
            return set()
        network, changed = workload.profile.network, set[str]()
        owners = self._owners.setdefault(network, {})
        for addr in workload.addresses:
            owner = owners.setdefault(addr, workload.uid)
            if owner != workload.uid:
                rivals = self._rivals.setdefault((network, addr), {})
                if not rivals:
                    rivals[owner] = score(others[owner])
                rivals.pop(workload.uid, None)
                rivals[workload.uid] = score(workload)
                changed |= self._settle(network, addr)
        return changed

    def drop(self, workload: Workload) -> set[str]:
        """Forget; returns the uids of the other claimants of the addresses that changed hands."""
        if workload.traits & HOST_NETWORK:
            return set()
        network, changed = workload.profile.network, set[str]()
        owners = self._owners.get(network, {})
        for addr in workload.addresses:
            rivals = self._rivals.get((network, addr))
            if rivals is not None:
                rivals.pop(workload.uid, None)
                changed |= self._settle(network, addr)
            elif owners.get(addr) == workload.uid:
                del owners[addr]
        changed.discard(workload.uid)
        return changed

    def owner(self, network: str, addr: bytes) -> str | None:
        """The uid that owns the address."""
        return self._owners.get(network, {}).get(addr)

    def count(self, network: str) -> int:
        """How many addresses of a network are owned."""
        return len(self._owners.get(network, ()))

    def contested(self, network: str, addr: bytes) -> bool:
        """Whether more than one workload claims the address."""
        return (network, addr) in self._rivals

    @property
    def conflicts(self) -> int:
        """How many addresses are claimed by more than one workload."""
        return len(self._rivals)

    def _settle(self, network: str, addr: bytes) -> set[str]:
        rivals = self._rivals[network, addr]
        old = self._owners[network][addr]
        best = max(rivals.values())
        new = next(uid for uid in reversed(rivals) if rivals[uid] == best)
        self._owners[network][addr] = new
        if len(rivals) == 1:
            del self._rivals[network, addr]
        # Whether the others may go on using it depends on who owns it.
        return {old, *rivals} if old != new else set()
