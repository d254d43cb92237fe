"""The mesh that is wanted: all resources, indexed by what the planner asks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.claims import Claims
from kmesh.core.model import Mode, Profile, Service, Visibility, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Frontend = tuple[bytes, int]
"""A service address: 16 masked bytes, prefix length out of 128."""


class Changes(NamedTuple):
    """What a batch of resources made dirty."""

    frontends: dict[Frontend, None]
    workloads: set[str]


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

    def apply(self, items: Iterable[tuple[str, Workload | Service | None]]) -> Changes:
        """Put (or with None remove) resources by name; removing what is absent is fine."""
        changes = Changes({}, set())
        home = self.home
        for name, value in items:
            if isinstance(value, Workload):
                self._put_workload(value, changes)
            elif value is not None:
                self._put_service(value, changes)
            elif name in self.workloads:
                self._drop_workload(self.workloads[name], changes)
            elif name in self.services:
                self._drop_service(self.services[name], changes)
        self._settle_home()
        if home != self.home:
            changes.frontends.update(dict.fromkeys(self._ranked()))
        return changes

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
        if not self.claims.contested(network, addr):
            return True
        owner = self.workloads[self.claims.owner(network, addr) or workload.uid]
        return owner.uid == workload.uid or "//Pod/" not in owner.uid

    def _put_workload(self, new: Workload, changes: Changes) -> None:
        old = self.workloads.get(new.uid)
        if old == new:
            return
        rivals = set[str]()
        if old is not None:
            rivals = self._leave(old, new)
            self._touch(old, changes)
        self.workloads[new.uid] = new
        rivals |= self.claims.put(new, self.workloads)
        for membership in new.memberships:
            self.members.setdefault(membership.service, {})[new.uid] = new
        if self._is_local(new):
            self._local[new.profile] += 1
        self._touch(new, changes)
        self._touch_all(rivals, changes)

    def _drop_workload(self, old: Workload, changes: Changes) -> None:
        del self.workloads[old.uid]
        rivals = self._leave(old, None)
        self._touch(old, changes)
        self._touch_all(rivals, changes)

    def _leave(self, old: Workload, new: Workload | None) -> set[str]:
        stays = {m.service for m in new.memberships} if new else set()
        for membership in old.memberships:
            if membership.service not in stays:
                members = self.members[membership.service]
                members.pop(old.uid, None)
                if not members:
                    del self.members[membership.service]
        if self._is_local(old):
            self._local[old.profile] -= 1
        return self.claims.drop(old)

    def _touch(self, workload: Workload, changes: Changes) -> None:
        changes.workloads.add(workload.uid)
        for membership in workload.memberships:
            service = self.services.get(membership.service)
            if service is not None:
                changes.frontends.update(dict.fromkeys(self.frontends_of(service)))

    def _touch_all(self, uids: set[str], changes: Changes) -> None:
        for uid in uids:
            if uid in self.workloads:
                self._touch(self.workloads[uid], changes)

    def _put_service(self, new: Service, changes: Changes) -> None:
        old = self.services.get(new.key)
        if old == new:
            return
        if old is not None:
            self._drop_service(old, changes)
        self.services[new.key] = new
        for frontend in self.frontends_of(new):
            keys = self.claimants.get(frontend, ())
            self.claimants[frontend] = tuple(sorted({*keys, new.key}))
            changes.frontends[frontend] = None

    def _drop_service(self, old: Service, changes: Changes) -> None:
        del self.services[old.key]
        for frontend in self.frontends_of(old):
            keys = tuple(key for key in self.claimants.get(frontend, ()) if key != old.key)
            if keys:
                self.claimants[frontend] = keys
            else:
                self.claimants.pop(frontend, None)
            changes.frontends[frontend] = None

    def _is_local(self, workload: Workload) -> bool:
        return bool(self.home.node) and workload.profile.node == self.home.node

    def _settle_home(self) -> None:
        """The node's locality is the one most of its workloads report."""
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
