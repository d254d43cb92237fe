"""The mesh that is wanted: all resources, indexed by what the planner asks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kmesh.core.claims import HOST_NETWORK, Claims
from kmesh.core.model import Mode, Profile, Service, Visibility, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Frontend = tuple[bytes, int]
"""A service address: 16 masked bytes, prefix length out of 128."""


Keys = dict[str, None]


class Store:
    """Workloads, services and who belongs to whom; order of arrival does not matter.

    ``network``, ``cluster`` and ``node`` are this agent's own: VIPs of other networks are not
    ours to serve, and the workloads of this node tell its locality.
    """

    def __init__(self, network: str = "", cluster: str = "Kubernetes", node: str = "") -> None:
        self.home = Profile(network, cluster, node)
        self.workloads: dict[str, Workload] = {}
        self.services: dict[str, Service] = {}
        self.members: dict[str, dict[str, Workload]] = {}
        self.claimants: dict[Frontend, tuple[str, ...]] = {}
        self.claims = Claims()
        self._local: Counter[Profile] = Counter()
        self._moved = False

    def apply(self, items: Iterable[tuple[str, Workload | Service | None]]) -> dict[Frontend, None]:
        """Put (or with None remove) resources by name; removing what is absent is fine.

        Returns the frontends whose answers may have changed.
        """
        home, dirty = self.home, dict[Frontend, None]()
        touched: Keys = {}
        for name, value in items:
            if isinstance(value, Workload):
                self._put_workload(value, touched)
            elif value is not None:
                self._put_service(value, dirty)
            elif name in self.workloads:
                self._drop_workload(self.workloads[name], touched)
            elif name in self.services:
                self._drop_service(self.services[name], dirty)
        for key in touched:
            service = self.services.get(key)
            if service is not None:
                dirty.update((frontend, None) for frontend in self.frontends_of(service))
        if self._moved:
            self._settle_home()
        if home != self.home:
            dirty.update((frontend, None) for frontend in self._ranked())
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

    def _put_workload(self, new: Workload, touched: Keys) -> None:
        uid, rivals = new.uid, set[str]()
        old = self.workloads.get(uid)
        if old is not None:
            if old == new:
                return
            rivals = self._leave(old, new)
            self._touch(old, touched)
        self.workloads[uid] = new
        rivals |= self.claims.put(new, self.workloads)
        for service, _ in new.memberships:
            touched[service] = None
            members = self.members.get(service)
            if members is None:
                self.members[service] = {uid: new}
            else:
                members[uid] = new
        self._count_local(new, 1)
        for rival in rivals:
            if rival in self.workloads:
                self._touch(self.workloads[rival], touched)

    def _drop_workload(self, old: Workload, touched: Keys) -> None:
        del self.workloads[old.uid]
        rivals = self._leave(old, None)
        self._touch(old, touched)
        for rival in rivals:
            self._touch(self.workloads[rival], touched)

    def _leave(self, old: Workload, new: Workload | None) -> set[str]:
        stays = {m.service for m in new.memberships} if new else set()
        for membership in old.memberships:
            if membership.service not in stays:
                members = self.members[membership.service]
                members.pop(old.uid, None)
                if not members:
                    del self.members[membership.service]
        self._count_local(old, -1)
        return self.claims.drop(old)

    def _touch(self, workload: Workload, touched: Keys) -> None:
        for membership in workload.memberships:
            touched[membership.service] = None

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

    def _count_local(self, workload: Workload, by: int) -> None:
        home, place = self.home, workload.profile
        # Clusters may name their nodes alike.
        if home.node and (place.node, place.cluster) == (home.node, home.cluster):
            self._local[workload.profile] += by
            self._moved = True

    def _settle_home(self) -> None:
        """The node's locality is the one most of its workloads report."""
        self._moved = False
        best = max(
            ((count, profile) for profile, count in self._local.items() if count > 0),
            default=None,
        )
        if best is not None:
            self.home = self.home._replace(
                region=best[1].region, zone=best[1].zone, subzone=best[1].subzone
            )

    def _ranked(self) -> Iterator[Frontend]:
        for service in self.services.values():
            if ranks(service):
                yield from self.frontends_of(service)


def ranks(service: Service) -> bool:
    """Whether the place of the client matters for this service."""
    return service.mode in (Mode.STRICT, Mode.FAILOVER) and bool(service.preference)
