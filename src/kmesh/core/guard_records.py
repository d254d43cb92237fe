"""What guards each pod: one record per address, by its workload and the policies that apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.check import seal_last
from kmesh.abi.layout import Guard, GuardMode, Reason
from kmesh.core.claims import HOST_NETWORK
from kmesh.core.commands import GUARD, Drop, Op, Phase, Put
from kmesh.core.guard_status import PodGuard, describe, outside, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kmesh.core.guard_places import GuardPlaces
    from kmesh.core.guard_sets import GuardSets
    from kmesh.core.model import Workload
    from kmesh.core.pods import Pods
    from kmesh.core.policy_index import Applicable, Content, PolicyIndex
    from kmesh.core.store import Store


class Known(NamedTuple):
    """What the records follow from."""

    store: Store
    enrolled: Pods
    workload_id: Callable[[str], int]
    policies: PolicyIndex
    sets: GuardSets
    places: GuardPlaces
    missing_open: bool


class GuardRecords:
    """The mirror of km_guard: 16-byte addresses to packed records. ``pods`` says by cookie how each
    pod is guarded since the last ``plan``."""

    def __init__(self, mesh: Known) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.pods: dict[int, PodGuard] = {}
        self._mesh = mesh

    def adopt(self, rows: Mapping[bytes, bytes]) -> None:
        """Take over what the kernel holds."""
        self.rows = dict(rows)

    def contents(self) -> dict[Content, None]:
        """The policies of all pods, once each."""
        mesh = self._mesh
        found = (mesh.store.workloads.get(uid) for uid in mesh.enrolled.wanted.values())
        return {mesh.policies.of(workload).policies: None for workload in found if workload}

    def closing(self, applicable: Applicable) -> Reason | None:
        """Why a pod of these policies lets nobody in; None when the policies decide."""
        if applicable.missing and not self._mesh.missing_open:
            return Reason.WAITING
        closed = applicable.policies in self._mesh.sets.closed
        return Reason.OVER_CAPACITY if closed else None

    def status(self, cookie: int, uid: str) -> PodGuard | None:
        """How a pod should be guarded by what is known now; None for one that is not guarded and
        whose workload nobody knows."""
        mesh = self._mesh
        workload = mesh.store.workloads.get(uid)
        if workload is None:
            return unknown(cookie, uid) if cookie in mesh.places.links else None
        applicable = mesh.policies.of(workload)
        if workload.traits & HOST_NETWORK:
            return outside(cookie, uid, applicable)
        why = mesh.sets.closed.get(applicable.policies, "")
        return describe(cookie, uid, applicable, self.closing(applicable), why)

    def addresses(self, uid: str) -> list[bytes]:
        """By which addresses a pod of this workload is guarded; none while that is not known. A
        host's namespace is not the pod's."""
        workload = self._mesh.store.workloads.get(uid)
        if workload is None:
            return []
        network, claims = workload.profile.network, self._mesh.store.claims
        return [a for a in workload.addresses if claims.owner(network, a) == uid]

    def known(self) -> dict[int, list[bytes]]:
        """The addresses of every pod whose workload is known."""
        mesh = self._mesh
        pods, workloads = mesh.enrolled.wanted.items(), mesh.store.workloads
        return {cookie: self.addresses(uid) for cookie, uid in pods if uid in workloads}

    def left(self) -> dict[int, list[bytes]]:
        """The addresses by which a pod was guarded whose workload is not known any more: its
        connections are nobody's now, what is open is closed."""
        mesh = self._mesh
        pods, workloads = mesh.enrolled.wanted.items(), mesh.store.workloads
        return {cookie: self.former(uid) for cookie, uid in pods if uid not in workloads}

    def former(self, uid: str) -> list[bytes]:
        """The addresses whose records are about this workload."""
        id_ = self._mesh.workload_id(uid)
        return [addr for addr, value in self.rows.items() if Guard.unpack(value).workload == id_]

    def content(self, workload: Workload) -> Content | None:
        """The policies that decide for a workload's pods; None when they let nobody in."""
        applicable = self._mesh.policies.of(workload)
        return None if self.closing(applicable) else applicable.policies

    def record(self, cookie: int, uid: str, content: Content | None) -> Guard | None:
        """What guards a pod with these policies, or (None) lets nobody in; None while the policies
        are not compiled. Its check word is 0."""
        workload = self._mesh.workload_id(uid)
        if content:
            rules = self._mesh.sets.rules.get(content)
            return None if rules is None else rules.guard(workload)
        if content is not None:
            return Guard(workload, 0, GuardMode.ALLOW, Reason.ALLOWED, *(0,) * 12)
        known = self.pods.get(cookie)
        reason = known.reason if known else Reason.UNLISTED
        return Guard(workload, 0, GuardMode.REFUSE, reason, *(0,) * 12)

    def plan(self, addresses: Mapping[int, list[bytes]]) -> tuple[list[Op], list[Op], set[int]]:
        """(records to put, records to drop, pods that get another record) for the addresses by
        which each pod is guarded."""
        self._look()
        wanted: dict[bytes, tuple[int, Guard]] = {}
        for cookie, mine in addresses.items():
            if mine:
                wanted |= dict.fromkeys(mine, (cookie, self._wanted(cookie)))
        puts, flipped = [], set()
        for addr, (cookie, record) in wanted.items():
            value = seal_last(addr, record.pack())
            if self.rows.get(addr) != value:
                puts.append(Op(Phase.GUARD, Put(GUARD, addr, value), None))
                flipped.add(cookie)
        drops = [
            Op(Phase.DROP_GUARD, Drop(GUARD, addr), None)
            for addr in self.rows.keys() - wanted.keys()
        ]
        return puts, drops, flipped

    def done(self, command: Put | Drop) -> None:
        """An operation of ``plan`` is in the kernel."""
        if isinstance(command, Put):
            self.rows[command.key] = command.value
        else:
            self.rows.pop(command.key, None)

    def _look(self) -> None:
        pods = self._mesh.enrolled.wanted.items()
        found = ((cookie, self.status(cookie, uid)) for cookie, uid in pods)
        self.pods = {cookie: pod for cookie, pod in found if pod is not None}

    def _wanted(self, cookie: int) -> Guard:
        """The record of an enrolled pod; one on the host's network has none of its own."""
        uid = self._mesh.enrolled.wanted[cookie]
        workload = self._mesh.store.workloads.get(uid)
        hosts = workload is None or workload.traits & HOST_NETWORK
        content = None if workload is None or hosts else self.content(workload)
        record = self.record(cookie, uid, content)
        assert record is not None  # all that is wanted is compiled
        if content:
            self.pods[cookie] = self.pods[cookie]._replace(set=record.set)
        return record
