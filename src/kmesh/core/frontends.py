"""Frontends to records: which are dirty, and the operations for the next of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.core.dirty import EXACT, Dirty
from kmesh.core.plan import by_phase, order
from kmesh.core.segments import Full
from kmesh.core.steps import never

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kmesh.core.adopt import Adopted
    from kmesh.core.commands import Op
    from kmesh.core.failures import Failures
    from kmesh.core.plan import Planner
    from kmesh.core.pods import Pods
    from kmesh.core.render import Render, Rows, View
    from kmesh.core.steps import Enough
    from kmesh.core.store import Frontend, Store

SLICE_FRONTENDS = 64
SLICE, LOOK = 96_000, 8000  # bytes of slots planned in one go, and between two looks at the clock
PER_ROW = 200  # a row costs as much as so many bytes of slots


class Frontends:
    """The half of the writer's brain that is about service addresses."""

    def __init__(
        self,
        store: Store,
        planner: Planner,
        render: Render,
        adopted: Adopted,
        pods: Pods,
        failing: Failures,
    ) -> None:
        self.dirty = Dirty()
        self._store, self._planner, self._render = store, planner, render
        self._adopted, self._pods, self._failing = adopted, pods, failing

    def start(self) -> None:
        """The mesh is known: what it does not know is to go."""
        self.dirty.add(self._planner.frontends)
        self.dirty.add(self._planner.cidrs)

    def wanted(self, frontend: Frontend) -> Rows | None:
        """The records of a frontend as they should be; None while it is still to be planned."""
        if frontend in self.dirty or frontend in self._adopted.left:
            return None
        return self._render.rows(frontend, self._pods.views)

    def first(self) -> Frontend | None:
        """The one that is planned next, and the one to fail when a table cannot grow."""
        return next(iter(self.dirty.next(1)[0]), None)

    def rejected(self) -> dict[str, str]:
        """Services whose frontends are failing, and why."""
        return {
            key: failure.why
            for owner, failure in self._failing.items()
            if isinstance(owner, tuple)
            for key in self._store.claimants.get(owner, ())
        }

    def plan(self, enough: Enough = never) -> list[Op]:
        """One slice of operations in a lawful order, which ends when there is enough for now;
        raises Full when a table must grow first."""
        frontends, drops = self.dirty.next(SLICE_FRONTENDS)
        ops: list[Op] = []
        render, views, adopted = self._render.rows, self._pods.views, self._adopted.left
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
                planned = self._planner.plan(frontend, rows, drops)
            except Full:
                if ops:
                    break
                raise
            ops += planned
            self.dirty.planned(frontend, drops)
            if drops and not planned:
                self._failing.pop(frontend, None)
        return by_phase(ops) if frontends and frontends[0][1] == EXACT else order(ops)

    def mark_sensitive(self, gone: Iterable[View] = ()) -> bool:
        """Views have come or gone: plan anew what looks different from somewhere; whether there is
        any."""
        home, sensitive = self._store.home, self._store.sensitive
        profiles = (view.profile for view in (*gone, *self._pods.views.values()))
        # All places but home are alike here, and what matters at home matters there too.
        place = next((profile for profile in profiles if profile != home), home)
        known = {*self._store.claimants, *self._planner.frontends}
        marked = [frontend for frontend in known if sensitive(frontend, place)]
        self.dirty.add(marked)
        return bool(marked)
