"""The mesh that is wanted: all resources, indexed by what the planner asks."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from kmesh.core.claims import HOST_NETWORK
from kmesh.core.model import Mode, Profile, Service, Visibility, Workload
from kmesh.core.roster import PlainRoster

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kmesh.core.roster import Roster

Frontend = tuple[bytes, int]
"""A service address: 16 masked bytes, prefix length out of 128."""


class Store:
    """Workloads, services and who belongs to whom; order of arrival does not matter.

    ``network``, ``cluster`` and ``node`` are this agent's own: VIPs of other networks are not
    ours to serve, and the workloads of this node tell its locality.
    """

    def __init__(
        self,
        network: str = "",
        cluster: str = "Kubernetes",
        node: str = "",
        roster: Roster | None = None,
    ) -> None:
        self.home = Profile(network, cluster, node)
        self.roster: Roster = roster or PlainRoster(node, cluster)
        self.workloads = self.roster.workloads
        self.members = self.roster.members
        self.claims = self.roster.claims
        self.services: dict[str, Service] = {}
        self.claimants: dict[Frontend, tuple[str, ...]] = {}
        self.unfinished = False

    def apply(
        self, items: Iterable[tuple[str, Workload | Service | None]], most: int | None = None
    ) -> dict[Frontend, None]:
        """Put (or with None remove) resources by name; removing what is absent is fine.

        Returns the frontends whose answers may have changed, by these or by what the roster
        learned meanwhile; of more than ``most`` services it learned of, some are left for the
        next call, and ``unfinished``.
        """
        home, dirty = self.home, dict[Frontend, None]()
        for name, value in items:
            if isinstance(value, Workload):
                self.roster.put(value)
            elif value is not None:
                self._put_service(value, dirty)
            else:
                self.roster.drop(name)
                if name in self.services:
                    self._drop_service(self.services[name], dirty)
        looked = 0
        for key in islice(self.roster.touched(), most):
            looked += 1
            service = self.services.get(key)
            if service is not None:
                dirty.update((frontend, None) for frontend in self.frontends_of(service))
        self._settle_home()
        if home != self.home:
            dirty.update((frontend, None) for frontend in self._ranked())
        self.unfinished = looked == most
        return dirty

    def sensitive(self, frontend: Frontend, profile: Profile) -> bool:
        """Whether a client of another namespace, or at ``profile``, may get another answer."""
        keys = self.claimants.get(frontend, ())
        if len(keys) > 1:
            return True
        service = self.services[keys[0]] if keys else None
        if service is None:
            return False
        return service.visibility is Visibility.NAMESPACE or (
            profile != self.home and ranks(service)
        )

    def frontends_of(self, service: Service) -> Iterator[Frontend]:
        """The addresses of a service that lie on our network."""
        for vip in service.vips:
            if vip.network == self.home.network:
                yield vip.addr, vip.plen

    def usable_address(self, workload: Workload, addr: bytes) -> bool:
        """Whether the workload still owns its address (a stale pod may not)."""
        network = workload.profile.network
        if workload.traits & HOST_NETWORK or not self.claims.contested(network, addr):
            return True
        owner = self.workloads[self.claims.owner(network, addr) or workload.uid]
        return owner.uid == workload.uid or "//Pod/" not in owner.uid

    def _put_service(self, new: Service, dirty: dict[Frontend, None]) -> None:
        old = self.services.get(new.key)
        if old == new:
            return
        if old is not None:
            self._drop_service(old, dirty)
        self.services[new.key] = new
        for frontend in self.frontends_of(new):
            keys = self.claimants.get(frontend, ())
            self.claimants[frontend] = tuple(sorted({*keys, new.key}))
            dirty[frontend] = None

    def _drop_service(self, old: Service, dirty: dict[Frontend, None]) -> None:
        del self.services[old.key]
        for frontend in self.frontends_of(old):
            keys = tuple(key for key in self.claimants.get(frontend, ()) if key != old.key)
            if keys:
                self.claimants[frontend] = keys
            else:
                self.claimants.pop(frontend, None)
            dirty[frontend] = None

    def _settle_home(self) -> None:
        """The node's locality is the one most of its workloads report."""
        local = self.roster.local()
        if local:
            _, best = max((count, profile) for profile, count in local.items())
            self.home = self.home._replace(region=best.region, zone=best.zone, subzone=best.subzone)

    def _ranked(self) -> Iterator[Frontend]:
        for service in self.services.values():
            if ranks(service):
                yield from self.frontends_of(service)


def ranks(service: Service) -> bool:
    """Whether the place of the client matters for this service."""
    return service.mode in (Mode.STRICT, Mode.FAILOVER) and bool(service.preference)
