"""Enrolled pods, and the views that their clients have of the mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi import layout
from kmesh.abi.check import seal_last
from kmesh.core.commands import ENROL, POD, Drop, Op, Phase, Put
from kmesh.core.render import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.core.store import Store

UID_ROOM = 512


class Pod(NamedTuple):
    """An enrolled namespace: its cookie, the uid of its workload, and its row in the kernel."""

    cookie: int
    uid: str
    enrol: layout.Enrol | None


class Pods:
    """Which namespaces are enrolled, for which workload, with which view (0: everybody's)."""

    def __init__(self, workload_id: Callable[[str], int]) -> None:
        self.wanted: dict[int, str] = {}
        self.rows: dict[int, layout.Enrol] = {}
        self.views: dict[int, View] = {}
        self._ids: dict[View, int] = {}
        self._names: dict[int, str] = {}
        self._last_view = 0
        self._workload_id = workload_id

    def adopt(self, names: dict[int, str], rows: dict[int, layout.Enrol]) -> None:
        """Take over what the kernel holds: every row that says for whom it is stays enrolled."""
        self.rows = dict(rows)
        self._names = dict(names)
        self.wanted = {cookie: uid for cookie, uid in names.items() if cookie in rows}
        self._last_view = max((row.view for row in rows.values()), default=0)

    def view(self, uid: str, store: Store, adopted: int = 0) -> int:
        """Id of the view of a workload's clients, 0 while the workload is unknown.

        ``adopted`` is the id that the kernel has for it: kept when nobody else has it.
        """
        workload = store.workloads.get(uid)
        if workload is None:
            return 0
        view = View(workload.identity.namespace, workload.profile)
        found = self._ids.get(view)
        if found is None:
            if adopted and adopted not in self.views:
                found = adopted
            else:
                self._last_view += 1
                found = self._last_view
            self._ids[view] = found
            self.views[found] = view
        return found

    def plan(self, cookie: int, store: Store, started: bool) -> list[Op]:
        """Operations that bring one pod's rows to what is wanted."""
        uid, row = self.wanted.get(cookie), self.rows.get(cookie)
        key = layout.EnrolKey(cookie).pack()
        if uid is None:
            known = cookie in self._names or row is not None
            drops = [Op(Phase.WITHDRAW, Drop(ENROL, key), cookie)]
            drops += [Op(Phase.FORGET_POD, Drop(POD, key), cookie)]
            return drops if known else []
        if not started and row is not None and self._names.get(cookie) == uid:
            return []  # adopted: its view is worked out when the mesh is known
        view = self.view(uid, store, row.view if row else 0) if started else 0
        new = layout.Enrol(self._workload_id(uid), view, 0, 0)
        ops = []
        if self._names.get(cookie) != uid:
            name = uid.encode().ljust(UID_ROOM, b"\0")
            ops.append(Op(Phase.POD, Put(POD, key, name), cookie))
        if row is None or row._replace(check=0) != new:
            value = seal_last(key, new.pack())
            ops.append(Op(Phase.ENROL, Put(ENROL, key, value), cookie))
        return ops

    def done(self, op: Op) -> None:
        """An operation of ``plan`` is in the kernel."""
        cookie, command = op.owner, op.command
        assert isinstance(cookie, int)
        if op.phase is Phase.ENROL and isinstance(command, Put):
            self.rows[cookie] = layout.Enrol.unpack(command.value)
        elif op.phase is Phase.POD:
            self._names[cookie] = self.wanted[cookie]
        elif op.phase is Phase.WITHDRAW:
            self.rows.pop(cookie, None)
        else:
            self._names.pop(cookie, None)

    def planned(self, table: str, key: bytes) -> bytes | None:
        """A row of km_enrol or km_pod as it was written."""
        cookie = int.from_bytes(key, "little")
        if table == ENROL:
            row = self.rows.get(cookie)
            return None if row is None else row.pack()
        uid = self._names.get(cookie)
        return None if uid is None else uid.encode().ljust(UID_ROOM, b"\0")

    def keys(self, table: str) -> list[bytes]:
        """Keys of the rows that were written."""
        return [layout.EnrolKey(c).pack() for c in (self.rows if table == ENROL else self._names)]

    def found(self, table: str, key: bytes) -> None:
        """A row is not as it was written: it will be put or dropped again."""
        cookie = int.from_bytes(key, "little")
        if table == POD:
            self._names[cookie] = ""
        else:  # the view stays: without it every record of the view would be written again
            old = self.rows.get(cookie, layout.Enrol(0, 0, 0, 0))
            self.rows[cookie] = old._replace(workload=0, check=0)

    def retire(self) -> bool:
        """Forget views that no pod has any more; whether there were any."""
        used = {row.view for row in self.rows.values()}
        unused = [id_ for id_ in self.views if id_ not in used]
        for id_ in unused:
            del self._ids[self.views.pop(id_)]
        return bool(unused)

    def list(self) -> list[Pod]:
        """Every pod that is wanted or still in the kernel."""
        cookies = sorted({*self.wanted, *self.rows})
        return [
            Pod(cookie, self.wanted.get(cookie, ""), self.rows.get(cookie)) for cookie in cookies
        ]


def decode_pod(value: bytes) -> str:
    """The uid in a km_pod row."""
    return layout.Pod.unpack(value).uid.rstrip(b"\0").decode(errors="replace")
