"""Which pods must be planned (again): enrolled, withdrawn, or of a workload that has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmesh.abi.layout import Enrol
    from kmesh.core.commands import Op
    from kmesh.core.failures import Failures
    from kmesh.core.pods import Pods
    from kmesh.core.store import Store


class Enrolments:
    """The turns of ``pods``, by the cookies of their namespaces: ``dirty`` are planned next."""

    def __init__(self, store: Store, pods: Pods, failing: Failures) -> None:
        self.dirty: dict[int, None] = {}
        self._stamps: dict[int, object] = {}
        self.pods = pods
        self._store, self._failing = store, failing

    def adopt(self, names: Mapping[int, str], rows: Mapping[int, Enrol]) -> None:
        """Take over what the kernel holds; a name without an enrolment is to go."""
        self.pods.adopt(dict(names), dict(rows))
        self.dirty.update((cookie, None) for cookie in names if cookie not in rows)

    def start(self) -> None:
        """The mesh is known: views first, for whose records frontends are planned."""
        for cookie, row in self.pods.rows.items():
            self.pods.view(self.pods.wanted.get(cookie, ""), self._store, row.view)
        self.dirty.update(dict.fromkeys(self.pods.wanted))

    def enrol(self, cookie: int, uid: str) -> None:
        """Bring a namespace into the mesh as a workload (or change which it is)."""
        self.pods.wanted[cookie] = uid
        self._stamps[cookie] = self._store.roster.stamp(uid)
        self.dirty[cookie] = None

    def withdraw(self, cookie: int) -> None:
        """Take a namespace out of the mesh; an unknown cookie is fine."""
        self.pods.wanted.pop(cookie, None)
        self._stamps.pop(cookie, None)
        self.dirty[cookie] = None

    def look(self) -> bool:
        """The mesh may have changed; whether the workload of some pod has."""
        changed, stamp = False, self._store.roster.stamp
        for cookie, uid in self.pods.wanted.items():
            found = stamp(uid)
            if found != self._stamps.get(cookie):
                self._stamps[cookie] = found
                self.dirty[cookie] = None
                changed = True
        return changed

    def plan(self, started: bool) -> list[Op]:
        """Operations for all that are dirty; they stay so until ``dirty`` is cleared."""
        ops: list[Op] = []
        for cookie in self.dirty:
            planned = self.pods.plan(cookie, self._store, started)
            if not planned:
                self._failing.pop(cookie, None)
            ops += planned
        return ops
