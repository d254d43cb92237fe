"""From resources to map writes: what is dirty, what is planned next, what failed.

Pure: times are arguments, the writer task applies the operations and reports the outcome. Nothing
is planned before the first answer of the control plane is whole (``start``): half a mesh would
send all traffic to the endpoints that came first, and on adopted maps it would drop live ones.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Reason
from kmesh.core.adopt import Adopted, decode_enrol
from kmesh.core.commands import ROW
from kmesh.core.dirty import EXACT, Dirty
from kmesh.core.failures import Failures
from kmesh.core.guard_why import forbids
from kmesh.core.guards import Guards
from kmesh.core.ids import Ids
from kmesh.core.plan import Planner, by_phase, order
from kmesh.core.pods import Pods, decode_pod
from kmesh.core.render import Render
from kmesh.core.segments import Full, Segments, SegmentStatistics
from kmesh.core.steps import never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kmesh.core.commands import Op, Owner
    from kmesh.core.guard_status import GuardLimits
    from kmesh.core.model import Authorization, Service, Workload
    from kmesh.core.render import Rows, View
    from kmesh.core.steps import Enough
    from kmesh.core.store import Frontend, Store
    from kmesh.core.tables import Found, FoundGuards, Outcome

SLICE_FRONTENDS = 64
SLICE, LOOK = 96_000, 8000  # bytes of slots planned in one go, and between two looks at the clock
PER_ROW = 200  # a row costs as much as so many bytes of slots


class Statistics(NamedTuple):
    """The state of the tables as the planner sees it."""

    started: bool
    workloads: int
    services: int
    dirty: int
    failing: int
    records: int
    record_capacity: int
    cidrs: int
    pods: int
    views: int
    conflicts: int
    segments: SegmentStatistics


class Steering:
    """The brain of the writer."""

    def __init__(
        self,
        store: Store,
        segments: Segments,
        vip_capacity: int,
        open_reasons: int = 0,
        bypass_waypoints: bool = False,
        rows: Segments | None = None,
        exempt: Iterable[tuple[bytes, int]] = (),
        limits: GuardLimits | None = None,
    ) -> None:
        self.store = store
        self.planner = Planner(segments, vip_capacity, open_reasons)
        self.service_ids = Ids()
        self.workload_ids = store.roster.ids
        self.pods = Pods(self.workload_ids.get)
        self.failing = Failures()
        self.guards = Guards(
            store,
            self.pods,
            self.workload_ids.get,
            rows or Segments(1 << 16, table=ROW),
            exempt,
            missing_open=bool(open_reasons >> Reason.WAITING & 1),
            limits=limits,
        )
        self.started = False
        self._left: Callable[[Workload, Workload | None], None] | None = None
        self._guarding = False
        self._render = Render(
            store,
            self.service_ids.get,
            self.workload_ids.get,
            bypass_waypoints,
            store.roster.select,
        )
        self._dirty = Dirty()
        self._dirty_pods: dict[int, None] = {}
        self._stamps: dict[int, object] = {}
        ids = self.service_ids, self.workload_ids
        self._adopted = Adopted(store, self.planner, self.pods, *ids)
        self._gone: dict[str, None] = {}

    def adopt(self, found: Found, guards: FoundGuards | None = None) -> None:
        """Take over everything the kernel holds."""
        if guards is not None:
            self.guards.adopt(guards)
        self._adopted.take(found)
        names = {int.from_bytes(raw, "little"): decode_pod(v) for raw, v in found.pods.items()}
        rows = {
            int.from_bytes(raw, "little"): decode_enrol(raw, v) for raw, v in found.enrols.items()
        }
        self.pods.adopt(names, rows)
        self._dirty_pods.update((cookie, None) for cookie in names if cookie not in rows)
        for cookie, enrol in rows.items():
            self.workload_ids.reserve(enrol.workload)
            self.workload_ids.bind(names.get(cookie, ""), enrol.workload)

    def tell_left(self, left: Callable[[Workload, Workload | None], None]) -> None:
        """Call this for every workload that goes, or is another (its new row) from now on."""
        self._left = left
        self.store.roster.keep_left()

    def put(
        self, items: Iterable[tuple[str, Workload | Service | None]], most: int | None = None
    ) -> bool:
        """New, changed and (None) removed resources, and what the roster learned meanwhile:
        of ``most`` services, and whether there are more."""
        items = list(items)
        self._dirty.add(self.store.apply(items, most))
        self.guards.peers.look()
        if self._left is not None:
            for old, new in self.store.roster.left():
                self._left(old, new)
        self._gone.update((name, None) for name, value in items if value is None)
        for cookie, uid in self.pods.wanted.items():
            stamp = self.store.roster.stamp(uid)
            if stamp != self._stamps.get(cookie):
                self._stamps[cookie] = stamp
                self._dirty_pods[cookie] = None
                self.guards.mark()
        return self.store.unfinished

    def start(self) -> None:
        """The control plane's first answer is whole: plan, and drop what it does not know."""
        self.started = True
        self.guards.mark()
        for cookie, row in self.pods.rows.items():  # before their records are planned
            self.pods.view(self.pods.wanted.get(cookie, ""), self.store, row.view)
        self._dirty.add(self.planner.frontends)
        self._dirty.add(self.planner.cidrs)
        self._dirty_pods.update(dict.fromkeys(self.pods.wanted))

    def enrol(self, cookie: int, uid: str) -> None:
        """Bring a namespace into the mesh as a workload (or change which it is)."""
        self.pods.wanted[cookie] = uid
        self._stamps[cookie] = self.store.roster.stamp(uid)
        self._dirty_pods[cookie] = None
        self.guards.mark()

    def withdraw(self, cookie: int) -> None:
        """Take a namespace out of the mesh; an unknown cookie is fine."""
        self.pods.wanted.pop(cookie, None)
        self._stamps.pop(cookie, None)
        self._dirty_pods[cookie] = None
        self.guards.mark()

    def put_policies(self, items: Iterable[tuple[str, Authorization | None]]) -> None:
        """New, changed and (None) removed policies."""
        self.guards.put(items)

    def start_guarding(self) -> None:
        """The control plane's first answer about policies is whole."""
        self.guards.started = True

    def idle(self) -> bool:
        """Whether nothing is left to plan (failures wait for their time)."""
        services = self._dirty_pods or (self.started and self._dirty)
        return not services and (not self.started or self.guards.idle())

    @property
    def batch(self) -> int:
        """The number of what became known last, for ``past``."""
        return self._dirty.batch

    def past(self, batch: int) -> bool:
        """Whether nothing is left to plan of what was known at this batch; what failed meanwhile
        has a batch of its own."""
        if not self.started:
            return self.idle()
        return self._dirty.past(batch) and not self._dirty_pods and self.guards.idle()

    def next_due(self) -> float | None:
        """When the next failed frontend or pod is to be tried again; None when there is none."""
        guards = self.guards.next_due()
        due = self.failing.next_due()
        due = due if guards is None else min(due, guards)
        return None if due == inf else due

    def next_ops(self, now: float, enough: Enough = never) -> list[Op]:
        """One slice of operations in a lawful order, which ends when there is enough for now;
        raises Full when a table must grow first. None of them does not mean ``idle``."""
        self.planner.segments.wake(now)
        guards = self.guards.next_ops(now, enough) if self.started else []
        self._guarding = bool(guards)
        if guards:
            return guards
        for owner in self.failing.revive(now):
            self.again(owner)
        if self.started and self._dirty:
            ops = self._frontend_ops(enough)
            if ops or self._dirty:
                return ops
        ops = self._pod_ops()
        if not ops and self.idle():
            self._forget_names()
            ops = self._tidy()
        return ops

    def report(self, ops: Sequence[Op], outcome: Outcome, now: float) -> None:
        """What became of a slice: those after the failed one are planned again."""
        if self._guarding:
            self.guards.report(outcome, now)
            return
        of_pods, done = False, self.planner.done
        for op in ops[: outcome.done]:
            if type(op.owner) is int:
                of_pods = True
                self.pods.done(op)
            else:
                done(op, now)
        rest = ops[outcome.done :]
        if self.failing:
            for owner in {op.owner for op in ops} - {op.owner for op in rest}:
                self.failing.pop(owner, None)
        if rest:
            of_pods = of_pods or any(isinstance(op.owner, int) for op in rest)
            self.planner.abandon(rest, now)
            for op in rest[1:]:
                self.again(op.owner)
            self.fail(rest[0].owner, str(outcome.error), now)
        if of_pods:
            self._new_views()

    def again(self, owner: Owner) -> None:
        """A frontend or pod is to be planned anew."""
        if isinstance(owner, int):
            self._dirty_pods[owner] = None
        elif owner is not None:
            self._dirty.add([owner])

    def wanted(self, frontend: Frontend) -> Rows | None:
        """The records of a frontend as they should be; None while it is still to be planned."""
        if not self.started or frontend in self._dirty or frontend in self._adopted.left:
            return None
        return self._render.rows(frontend, self.pods.views)

    def waits(self, cookie: int) -> bool:
        """Whether a pod is still to be planned."""
        return cookie in self._dirty_pods

    def fail(self, owner: Owner, why: str, now: float) -> None:
        """Keep the old rows of a frontend or pod and try again later."""
        self.failing.note(owner, why, now)
        if isinstance(owner, int):
            self._dirty_pods.pop(owner, None)
        elif owner is not None:
            self._dirty.discard(owner)

    def first_dirty(self) -> Frontend | None:
        """The frontend that is planned next: the one to fail when a table cannot grow."""
        return next(iter(self._dirty.next(1)[0]), None)

    def rejected(self) -> dict[str, str]:
        """Services whose frontends are failing, and why."""
        return {
            key: failure.why
            for owner, failure in self.failing.items()
            if isinstance(owner, tuple)
            for key in self.store.claimants.get(owner, ())
        }

    def forbids(self, source: bytes, destination: bytes, port: int) -> bool:
        """Whether a pod that is guarded here refuses a connection between 16-byte addresses, by
        what is wanted now."""
        open_reasons = self.planner.open_reasons
        return forbids(self.guards, open_reasons, source, destination, port)

    def statistics(self) -> Statistics:
        """For metrics and dumps."""
        store, planner = self.store, self.planner
        return Statistics(
            self.started, len(store.workloads), len(store.services),
            len(self._dirty) + len(self._dirty_pods), len(self.failing), len(planner.records),
            planner.vip_capacity, len(planner.cidrs), len(self.pods.rows), len(self.pods.views),
            store.claims.conflicts, planner.segments.statistics(),
        )  # fmt: skip

    def _frontend_ops(self, enough: Enough = never) -> list[Op]:
        frontends, drops = self._dirty.next(SLICE_FRONTENDS)
        ops: list[Op] = []
        render, views, adopted = self._render.rows, self.pods.views, self._adopted.left
        work = looked = 0
        for frontend in frontends:
            if work - looked > LOOK:
                if work > SLICE or enough():
                    break
                looked = work
            if frontend in adopted:
                self._adopted.bind(frontend)
            rows = render(frontend, views)
            for target in rows.values():
                work += len(target.slots) + PER_ROW
            try:
                planned = self.planner.plan(frontend, rows, drops)
            except Full:
                if ops:
                    break
                raise
            ops += planned
            self._dirty.planned(frontend, drops)
            if drops and not planned:
                self.failing.pop(frontend, None)
        return by_phase(ops) if frontends and frontends[0][1] == EXACT else order(ops)

    def _pod_ops(self) -> list[Op]:
        ops: list[Op] = []
        views = set(self.pods.views)
        for cookie in self._dirty_pods:
            planned = self.pods.plan(cookie, self.store, self.started)
            if not planned:
                self.failing.pop(cookie, None)
            ops += planned
        if set(self.pods.views) != views and self._mark_sensitive():
            return self._frontend_ops()  # a view's records come before its pods
        self._dirty_pods.clear()
        return order(ops)

    def _tidy(self) -> list[Op]:
        ops = self.planner.tidy()
        if not ops:
            self.failing.pop(None, None)
        return [] if self.failing.waits(None) else ops

    def _new_views(self) -> None:
        views = [*self.pods.views.values()]
        if self.pods.retire():
            self._mark_sensitive(views)

    def _mark_sensitive(self, gone: Iterable[View] = ()) -> bool:
        home, sensitive = self.store.home, self.store.sensitive
        profiles = (view.profile for view in (*gone, *self.pods.views.values()))
        # All places but home are alike here, and what matters at home matters there too.
        place = next((profile for profile in profiles if profile != home), home)
        known = {*self.store.claimants, *self.planner.frontends}
        marked = [frontend for frontend in known if sensitive(frontend, place)]
        self._dirty.add(marked)
        return bool(marked) and self.started

    def _forget_names(self) -> None:
        for name in self._gone:
            if name not in self.store.workloads and name not in self.pods.wanted.values():
                self.workload_ids.drop(name)
            if name not in self.store.services:
                self.service_ids.drop(name)
        self._gone.clear()
