"""What the kernel holds, turned back into targets and segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.check import seal, seal_last
from kmesh.abi.layout import SLOT_SIZE, CidrKey, Config, Enrol, Reason, Vip, VipAction
from kmesh.core.mirror import ACTIONS, REASONS, Segment
from kmesh.core.plan import frontend_of
from kmesh.core.pods import decode_pod
from kmesh.core.render import Target, choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kmesh.core.enrolments import Enrolments
    from kmesh.core.ids import Ids
    from kmesh.core.model import Service
    from kmesh.core.plan import Planner
    from kmesh.core.store import Frontend, Store
    from kmesh.core.tables import Found

DAMAGED = Target(VipAction.NONE, Reason.INCONSISTENT, 0)


class Adopted:
    """The records of the agent before: ids lie in their rows until they are planned anew.

    ``left`` are the frontends that were not yet.
    """

    def __init__(
        self,
        store: Store,
        planner: Planner,
        enrolments: Enrolments,
        service_ids: Ids,
        workload_ids: Ids,
    ) -> None:
        self.left: set[Frontend] = set()
        self._store, self._planner = store, planner
        self._enrolments = enrolments
        self._service_ids, self._workload_ids = service_ids, workload_ids

    def take(self, found: Found) -> None:
        """Take over all records, address ranges and pods; their ids are given to nobody else."""
        for raw, value in found.vips.items():
            target, segment = decode(raw, value, found.slots)
            self._planner.adopt(raw, target, segment)
            self._service_ids.reserve(target.service)
            self.left.add(frontend_of(raw))
            for _, workload in workloads(target):
                self._workload_ids.reserve(workload)
        for raw in found.cidrs:
            key = CidrKey.unpack(raw)
            self._planner.cidrs.add((key.addr, key.plen))
        self._planner.cidrs_on = bool(found.config and Config.unpack(found.config).cidrs)
        self._take_pods(found)

    def _take_pods(self, found: Found) -> None:
        names = {int.from_bytes(raw, "little"): decode_pod(v) for raw, v in found.pods.items()}
        rows = {
            int.from_bytes(raw, "little"): decode_enrol(raw, v) for raw, v in found.enrols.items()
        }
        self._enrolments.adopt(names, rows)
        for cookie, enrol in rows.items():
            self._workload_ids.reserve(enrol.workload)
            self._workload_ids.bind(names.get(cookie, ""), enrol.workload)

    def bind(self, frontend: Frontend) -> None:
        """Before a frontend is first planned: take its ids over from its rows."""
        self.left.discard(frontend)
        store, planner = self._store, self._planner
        services = [store.services[key] for key in store.claimants.get(frontend, ())]
        for key in planner.frontends.get(frontend, ()):
            target = planner.records[key].target
            client = self._namespace(int.from_bytes(key[16:20], "little"))
            service = choose(services, client) if client is not None else None
            if service is not None:
                self._service_ids.bind(service.key, target.service)
            bind(self._workload_ids, store, services, target)

    def _namespace(self, view: int) -> str | None:
        """Namespace of a view's clients, empty for everybody's; None when nobody has the view."""
        if not view:
            return ""
        found = self._enrolments.pods.views.get(view)
        return None if found is None else found.namespace


def decode(key: bytes, value: bytes, slots: bytes | memoryview) -> tuple[Target, Segment | None]:
    """A kernel record as target and segment; no segment when its slots do not carry its gen.

    A record that the programs do not believe is DAMAGED: it equals nothing that can be wanted.
    """
    if seal(key, value) != value:
        return DAMAGED, None
    row = Vip.unpack(value)
    segment, content = None, b""
    raw = bytearray(slots[row.base * SLOT_SIZE : (row.base + row.slots) * SLOT_SIZE])
    if row.action == VipAction.BALANCE and raw and len(raw) == row.slots * SLOT_SIZE:
        low, high = bytes([row.gen & 0xFF]) * row.slots, bytes([row.gen >> 8]) * row.slots
        if raw[SLOT_SIZE - 2 :: SLOT_SIZE] == low and raw[SLOT_SIZE - 1 :: SLOT_SIZE] == high:
            raw[SLOT_SIZE - 2 :: SLOT_SIZE] = raw[SLOT_SIZE - 1 :: SLOT_SIZE] = bytes(row.slots)
            content = bytes(raw)
            segment = Segment(row.base, row.gen, row.service, content)
    reason = REASONS.get(row.reason, Reason.INCONSISTENT)
    action = ACTIONS.get(row.action, VipAction.NONE)
    return Target(action, reason, row.service, row.port, content, row.flags), segment


def workloads(target: Target) -> Iterator[tuple[bytes, int]]:
    """(address, workload id) of each slot of a target."""
    for at in range(0, len(target.slots), SLOT_SIZE):
        yield target.slots[at : at + 16], int.from_bytes(target.slots[at + 16 : at + 20], "little")


def bind(ids: Ids, store: Store, services: Iterable[Service], target: Target) -> None:
    """Give the ids in a target's slots back to their workloads: to the owner of the address, or
    among those that share one to each endpoint of the services in turn."""
    network, shared = store.home.network, []
    for addr, id_ in workloads(target):
        owner = store.claims.owner(network, addr)
        bound = owner is not None and ids.bind(owner, id_)
        if owner is None or (not bound and store.claims.contested(network, addr)):
            shared.append((addr, id_))
    if not shared:
        return
    homes: dict[bytes, list[str]] = {addr: [] for addr, _ in shared}
    for service in services:
        for uid, workload in store.members.get(service.key, {}).items():
            for addr in workload.addresses:
                if addr in homes:
                    homes[addr].append(uid)
    for addr, id_ in shared:
        for uid in homes[addr]:
            if ids.bind(uid, id_):
                break


def decode_enrol(key: bytes, value: bytes) -> Enrol:
    """An enrolment; all zero, which no sealed row is, when the programs do not believe it."""
    return Enrol.unpack(value if seal_last(key, value) == value else bytes(len(value)))
