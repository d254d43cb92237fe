"""From resources to map writes: what is dirty, what is planned next, what failed.

Pure: times are arguments, the writer task applies the operations and reports the outcome. Nothing
is planned before the first answer of the control plane is whole (``start``): half a mesh would
send all traffic to the endpoints that came first, and on adopted maps it would drop live ones.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Reason
from kmesh.core.adopt import Adopted
from kmesh.core.commands import ROW
from kmesh.core.enrolments import Enrolments
from kmesh.core.failures import Failures
from kmesh.core.frontends import Frontends
from kmesh.core.guards import Guards
from kmesh.core.ids import Ids
from kmesh.core.plan import Planner, order
from kmesh.core.pods import Pods
from kmesh.core.render import Render
from kmesh.core.segments import Segments, SegmentStatistics
from kmesh.core.steps import never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kmesh.core.commands import Op, Owner
    from kmesh.core.guard_status import GuardLimits
    from kmesh.core.model import Authorization, Service, Workload
    from kmesh.core.steps import Enough
    from kmesh.core.store import Store
    from kmesh.core.tables import Found, FoundGuards, Outcome


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
        ids = self.service_ids, self.workload_ids
        self.enrolments = Enrolments(store, self.pods, self.failing)
        self._adopted = Adopted(store, self.planner, self.enrolments, *ids)
        render = Render(store, ids[0].get, ids[1].get, bypass_waypoints, store.roster.select)
        self.frontends = Frontends(
            store, self.planner, render, self._adopted, self.pods, self.failing
        )
        self._gone: dict[str, None] = {}

    def adopt(self, found: Found, guards: FoundGuards | None = None) -> None:
        """Take over everything the kernel holds."""
        if guards is not None:
            self.guards.adopt(guards)
        self._adopted.take(found)

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
        self.frontends.dirty.add(self.store.apply(items, most))
        self.guards.peers.look()
        if self._left is not None:
            for old, new in self.store.roster.left():
                self._left(old, new)
        self._gone.update((name, None) for name, value in items if value is None)
        if self.enrolments.look():
            self.guards.mark()
        return self.store.unfinished

    def start(self) -> None:
        """The control plane's first answer is whole: plan, and drop what it does not know."""
        self.started = True
        self.guards.mark()
        self.enrolments.start()
        self.frontends.start()

    def enrol(self, cookie: int, uid: str) -> None:
        """Bring a namespace into the mesh as a workload (or change which it is)."""
        self.enrolments.enrol(cookie, uid)
        self.guards.mark()

    def withdraw(self, cookie: int) -> None:
        """Take a namespace out of the mesh; an unknown cookie is fine."""
        self.enrolments.withdraw(cookie)
        self.guards.mark()

    def put_policies(self, items: Iterable[tuple[str, Authorization | None]]) -> None:
        """New, changed and (None) removed policies."""
        self.guards.put(items)

    def start_guarding(self) -> None:
        """The control plane's first answer about policies is whole."""
        self.guards.started = True

    def idle(self) -> bool:
        """Whether nothing is left to plan (failures wait for their time)."""
        dirty = self.enrolments.dirty or (self.started and self.frontends.dirty)
        return not dirty and (not self.started or self.guards.idle())

    def past(self, batch: int) -> bool:
        """Whether nothing is left to plan of what was known at this batch; what failed meanwhile
        has a batch of its own."""
        if not self.started:
            return self.idle()
        past = self.frontends.dirty.past(batch) and not self.enrolments.dirty
        return past and self.guards.idle()

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
        if self.started and self.frontends.dirty:
            ops = self.frontends.plan(enough)
            if ops or self.frontends.dirty:
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
            self.enrolments.dirty[owner] = None
        elif owner is not None:
            self.frontends.dirty.add([owner])

    def fail(self, owner: Owner, why: str, now: float) -> None:
        """Keep the old rows of a frontend or pod and try again later."""
        self.failing.note(owner, why, now)
        if isinstance(owner, int):
            self.enrolments.dirty.pop(owner, None)
        elif owner is not None:
            self.frontends.dirty.discard(owner)

    def statistics(self) -> Statistics:
        """For metrics and dumps."""
        store, planner = self.store, self.planner
        dirty = len(self.frontends.dirty) + len(self.enrolments.dirty)
        return Statistics(
            self.started, len(store.workloads), len(store.services), dirty, len(self.failing),
            len(planner.records),
            planner.vip_capacity, len(planner.cidrs), len(self.pods.rows), len(self.pods.views),
            store.claims.conflicts, planner.segments.statistics(),
        )  # fmt: skip

    def _pod_ops(self) -> list[Op]:
        views = set(self.pods.views)
        ops = self.enrolments.plan(self.started)
        if set(self.pods.views) != views and self.frontends.mark_sensitive() and self.started:
            return self.frontends.plan()  # a view's records come before its pods
        self.enrolments.dirty.clear()
        return order(ops)

    def _tidy(self) -> list[Op]:
        ops = self.planner.tidy()
        if not ops:
            self.failing.pop(None, None)
        return [] if self.failing.waits(None) else ops

    def _new_views(self) -> None:
        views = [*self.pods.views.values()]
        if self.pods.retire():
            self.frontends.mark_sensitive(views)

    def _forget_names(self) -> None:
        for name in self._gone:
            if name not in self.store.workloads and name not in self.pods.wanted.values():
                self.workload_ids.drop(name)
            if name not in self.store.services:
                self.service_ids.drop(name)
        self._gone.clear()
