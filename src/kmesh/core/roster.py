"""Who is in the mesh: all workloads, indexed by what the planner asks.

``PlainRoster`` says in Python what each answer is; for 100,000 workloads there is a compact one
(``wire.mesh``), which learns of workloads before the store does: what is true is true at once.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kmesh.core.claims import Claims
from kmesh.core.ids import Ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kmesh.core.model import Families, Identity, Port, Profile, Workload


class Asked(NamedTuple):
    """A service, and clients on a network that dialled ``vip``, which is the address itself if
    ``exact``, else the start of a range."""

    service: str
    network: str
    vip: bytes
    exact: bool
    unhealthy: bool
    families: Families


class Chosen(NamedTuple):
    """Endpoints of a service: slots of 24 bytes with port and gen 0, sorted; of each kind of them
    the ports that it has for this service, and the weight. Without slots, whether only for want of
    the family."""

    slots: bytes
    kinds: tuple[tuple[tuple[Port, ...], int], ...]
    wrong_family: bool


class Owners(Protocol):
    """Whose an address is; see core.claims.Claims."""

    def owner(self, network: str, addr: bytes) -> str | None: ...

    def count(self, network: str) -> int: ...

    def contested(self, network: str, addr: bytes) -> bool: ...

    @property
    def conflicts(self) -> int: ...


class Roster(Protocol):
    """``members`` are the endpoints by service; ``ids`` are those of workloads in the maps."""

    @property
    def workloads(self) -> Mapping[str, Workload]: ...

    @property
    def members(self) -> Mapping[str, Mapping[str, Workload]]: ...

    @property
    def claims(self) -> Owners: ...

    @property
    def ids(self) -> Ids: ...

    def put(self, new: Workload) -> None:
        """A workload that is new or changed."""

    def drop(self, uid: str) -> None:
        """A workload is gone; unknown ones are fine."""

    def touched(self) -> Iterator[str]:
        """Services whose endpoints may have changed, each until it was taken from this."""

    def local(self) -> Mapping[Profile, int] | None:
        """How many workloads of this node report each place; None when none came or went since
        this was asked last."""

    def stamp(self, uid: str) -> object:
        """Equal as long as the workload is the same; None when there is none."""

    def watch(self) -> None:
        """Remember from now on which addresses came, went or changed hands."""

    def moved(self) -> Iterable[bytes]:
        """Those addresses since this was asked last."""

    def keep_left(self) -> None:
        """Keep from now on the rows of workloads that go or change."""

    def left(self) -> Iterable[tuple[Workload, Workload | None]]:
        """Those rows since this was asked last, and what the workload is now."""

    def identities(self) -> set[Identity]:
        """Of all workloads."""

    def addresses(self) -> Iterable[bytes]:
        """Of all workloads."""

    def select(self, asked: Asked) -> Chosen | None:
        """The endpoints that clients can reach, or None when that must be found out one by one
        (core.endpoints)."""


class PlainRoster:
    """The roster in dicts; ``node`` and ``cluster`` are the agent's own."""

    def __init__(self, node: str = "", cluster: str = "Kubernetes") -> None:
        self.workloads: dict[str, Workload] = {}
        self.members: dict[str, dict[str, Workload]] = {}
        self.claims = Claims()
        self.ids = Ids()
        self._here = node, cluster
        self._local: Counter[Profile] = Counter()
        self._settled = True
        self._touched: dict[str, None] = {}
        self._watching = self._keeping = False
        self._left: list[Workload] = []
        self._moved: dict[bytes, None] = {}

    def put(self, new: Workload) -> None:
        """See Roster."""
        uid, rivals = new.uid, set[str]()
        old = self.workloads.get(uid)
        if old is not None:
            if old == new:
                return
            rivals = self._leave(old, new)
            self._touch(old)
        self.workloads[uid] = new
        rivals |= self.claims.put(new, self.workloads)
        for service, _ in new.memberships:
            self.members.setdefault(service, {})[uid] = new
        self._touch(new)
        self._count_local(new, 1)
        for rival in rivals:
            if rival in self.workloads:
                self._touch(self.workloads[rival])

    def drop(self, uid: str) -> None:
        """See Roster."""
        old = self.workloads.pop(uid, None)
        if old is None:
            return
        rivals = self._leave(old, None)
        self._touch(old)
        for rival in rivals:
            self._touch(self.workloads[rival])

    def touched(self) -> Iterator[str]:
        """See Roster."""
        while self._touched:
            service = next(iter(self._touched))
            del self._touched[service]
            yield service

    def local(self) -> dict[Profile, int] | None:
        """See Roster."""
        if self._settled:
            return None
        self._settled = True
        return {profile: count for profile, count in self._local.items() if count > 0}

    def stamp(self, uid: str) -> Workload | None:
        """See Roster."""
        return self.workloads.get(uid)

    def watch(self) -> None:
        """See Roster."""
        self._watching = True

    def moved(self) -> list[bytes]:
        """See Roster."""
        found = list(self._moved)
        self._moved.clear()
        return found

    def keep_left(self) -> None:
        """See Roster."""
        self._keeping = True

    def left(self) -> list[tuple[Workload, Workload | None]]:
        """See Roster."""
        found = [(old, self.workloads.get(old.uid)) for old in self._left]
        self._left.clear()
        return found

    def identities(self) -> set[Identity]:
        """See Roster."""
        return {workload.identity for workload in self.workloads.values()}

    def addresses(self) -> list[bytes]:
        """See Roster."""
        return [addr for workload in self.workloads.values() for addr in workload.addresses]

    def select(self, *_: object) -> None:
        """One by one, always."""

    def _leave(self, old: Workload, new: Workload | None) -> set[str]:
        stays = {m.service for m in new.memberships} if new else set()
        for membership in old.memberships:
            if membership.service not in stays:
                members = self.members[membership.service]
                members.pop(old.uid, None)
                if not members:
                    del self.members[membership.service]
        self._count_local(old, -1)
        if self._keeping:
            self._left.append(old)
        return self.claims.drop(old)

    def _touch(self, workload: Workload) -> None:
        for membership in workload.memberships:
            self._touched[membership.service] = None

    def _count_local(self, workload: Workload, by: int) -> None:
        place = workload.profile
        # Clusters may name their nodes alike.
        if self._here[0] and (place.node, place.cluster) == self._here:
            self._local[place] += by
            self._settled = False
        if self._watching:
            self._moved.update(dict.fromkeys(workload.addresses))
