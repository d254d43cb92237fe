"""Plans the tables of authorization: from policies and enrolled pods to one record per address.

The law of the planner holds here too: what a record leads to is written before it, and removed a
rest after nothing leads to it any more, so a connection meets the old set of policies or the new
one. Every operation may be repeated; one that failed is tried again before anything later.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Protocol

from kmesh.abi.layout import Guard, GuardMode
from kmesh.core.commands import GUARD, LINK, OWN, PEER, Drop, Op, Put
from kmesh.core.exemptions import Exemptions
from kmesh.core.guard_names import GuardNames
from kmesh.core.guard_places import GuardPlaces
from kmesh.core.guard_records import GuardRecords, Known
from kmesh.core.guard_sets import GuardSets
from kmesh.core.guard_slices import Slices
from kmesh.core.guard_status import GuardLimits, GuardStatistics
from kmesh.core.own import OwnAddresses
from kmesh.core.peers import Peers
from kmesh.core.policy_index import PolicyIndex
from kmesh.core.steps import never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kmesh.core.model import Authorization
    from kmesh.core.pods import Pods
    from kmesh.core.segments import Segments
    from kmesh.core.steps import Enough
    from kmesh.core.store import Store
    from kmesh.core.tables import FoundGuards, Outcome


class Mirror(Protocol):
    """A table as it is believed to be."""

    def done(self, command: Put | Drop) -> None: ...


class Guards:
    """The planner of authorization. ``changed`` is told the cookies of the pods that may refuse now
    whom they let in before, once that is in the kernel."""

    def __init__(
        self,
        store: Store,
        pods: Pods,
        workload_id: Callable[[str], int],
        rows: Segments,
        exempt: Iterable[tuple[bytes, int]] = (),
        missing_open: bool = False,
        limits: GuardLimits | None = None,
    ) -> None:
        self.index = PolicyIndex()
        self.names = GuardNames()
        self.peers = Peers(store, self.names)
        self.sets = GuardSets(rows, self.names, self.peers, limits or GuardLimits())
        self.places = GuardPlaces()
        self.own = OwnAddresses()
        self.exempt = Exemptions(exempt)
        self.slices = Slices()
        mesh = Known(store, pods, workload_id, self.index, self.sets, self.places, missing_open)
        self.records = GuardRecords(mesh)
        self._mirrors: dict[str, Mirror] = {
            GUARD: self.records, LINK: self.places, OWN: self.own, PEER: self.peers,
        }  # fmt: skip
        self.started = False
        self.changed: Callable[[set[int]], None] = lambda _: None
        self._enrolled = pods
        self._repairs: list[Op] = []
        self._adopted = False
        self._dirty = True
        self._flipped: set[int] = set()
        self._left: set[int] = set()

    def adopt(self, found: FoundGuards) -> None:
        """Take over what the kernel holds: records stay in force until they are planned anew, and
        what they lead to is removed after that."""
        self.records.adopt(found.guards)
        self.places.adopt(found.links)
        self.own.adopt(found.own)
        self.names.adopt(found.names)
        self.names.counted = bool(found.guards)
        self.peers.adopt(found.peers)
        self._adopted = self.peers.on
        self.exempt.adopt(found.exempt)
        # The agent before may have ended between a change and the end of what that forbade.
        self._left = set(found.links)
        sets = [Guard.unpack(value).set for value in found.guards.values()]
        self.sets.adopt(sets, found.rules, found.rows)

    def put(self, items: Iterable[tuple[str, Authorization | None]]) -> None:
        """New, changed and (None) removed policies."""
        self._dirty |= self.index.apply(items)

    def mark(self) -> None:
        """Something that guards depend on has changed: an enrolment, or a pod's workload."""
        self._dirty = True

    def place(self, cookie: int, place: bytes) -> None:
        """Where to guard a pod: packed indexes of its interfaces, empty for the namespace as a
        whole."""
        self._dirty |= self.places.tell(cookie, place)

    def found(self, cookie: int, place: bytes | None) -> None:
        """A pod is not guarded where it was: there instead, or nowhere."""
        self.places.found(cookie, place)
        self._dirty = True

    def repair(self, op: Op) -> None:
        """A row that a set needs, or that no set needs, is not as it was written."""
        self._repairs.append(op)
        self._dirty = True

    def settled(self) -> bool:
        """Whether the sets in the kernel are exactly those that are known here."""
        return not self.busy() and self.sets.settled()

    def busy(self) -> bool:
        """Whether something is known that the kernel does not hold yet."""
        slices = self.slices
        return not self.started or bool(
            self._dirty or slices.running or slices.ops or self._repairs
        )

    def idle(self) -> bool:
        """Whether all that is known is in the kernel."""
        return not self.started or not (self._dirty or self.slices.running or self.peers.dirty)

    def next_due(self) -> float | None:
        """When there is something to do although nothing has changed."""
        if not self.started:
            return None
        rested = self.sets.next_due
        return min([*self.slices.times(), *([rested] if rested else [])], default=None)

    def next_ops(self, now: float, enough: Enough = never) -> list[Op]:
        """One slice of operations, in order; raises Full when km_row must grow first. It ends when
        there is enough for now; without operations there may still be something to do (``idle``).
        """
        slices = self.slices
        if not self.started or slices.waits(now):
            return []
        self.sets.rows.wake(now)
        self._dirty |= slices.revive(now)
        if not slices.ops and slices.ended(enough):
            self._settled()
            slices.begin(self._plan(now, enough))
            if slices.ended(enough):
                self._settled()
        return slices.ops

    def report(self, outcome: Outcome, now: float) -> None:
        """What became of the slice: from the failed operation on it is tried again."""
        for op in self.slices.report(outcome, now):
            self._done(op)

    def refuse(self) -> None:
        """km_row cannot grow: whoever needs new rows is closed."""
        self.sets.refuse(self.records.contents())
        self._dirty = True

    def statistics(self) -> GuardStatistics:
        """For metrics and dumps."""
        rows = self.sets.rows.statistics()
        closed = sum(pod.mode is GuardMode.REFUSE for pod in self.records.pods.values())
        return GuardStatistics(
            self.started, len(self.index.policies), len(self.names.used), self.sets.most_bits,
            len(self.sets.rules), len(self.records.rows),
            len(self.peers.rows), len(self.names.identities), self.sets.values,
            self.sets.limits, rows.used, rows.capacity, closed, self.slices.failing,
        )  # fmt: skip

    def _plan(self, now: float, enough: Enough) -> Iterator[Op | None]:
        """All operations for what has changed since the last plan; while sets are compiled, those
        that need none of them."""
        flips: list[Op] = []
        ready = not self._dirty or self.sets.need(self.records.contents(), enough)
        if ready:
            self._flipped |= self._left
            self._left = set()
        self.peers.prepare(self.sets.rules.values())
        due = self.sets.take_due(now, self.index.policies.keys())
        repairs, self._repairs = self._repairs, []
        ops = chain(self.names.take_ops(), self.exempt.take_ops(), self.sets.take_ops(), repairs)
        if ready and self._dirty:
            self._dirty = False
            flips = self._flips()
            self.sets.retire(self.records.contents(), now)
        if self._adopted and (flips or not ready):
            # The sets of the last agent have no rows for identities that came meanwhile.
            self._adopted = not ready
            return chain(due, ops, flips, self.peers.plan() if ready else ())
        return chain(due, ops, self.peers.plan(), flips)

    def _flips(self) -> list[Op]:
        """Records and links as they should be, then those that should not be."""
        known = self.records.known()
        guarded = self.records.left() | known  # who is known has the address
        own, gone = self.own.plan(known)
        puts, drops, flipped = self.records.plan(guarded)
        self._flipped |= flipped
        places = (cookie for cookie, addresses in guarded.items() if addresses)
        links = self.places.plan(places, self._enrolled.wanted.keys())
        return [*own, *puts, *links, *drops, *gone]

    def _settled(self) -> None:
        """Everything planned is in the kernel: who is judged otherwise now?"""
        flipped, self._flipped = self._flipped, set()
        pods = {cookie: pod for cookie in flipped if (pod := self.records.pods.get(cookie))}
        if judged := {c for c, pod in pods.items() if pod.mode is not GuardMode.ALLOW}:
            self.changed(judged)

    def _done(self, op: Op) -> None:
        command = op.command
        if isinstance(command, Put | Drop):
            mirror = self._mirrors.get(command.table)
            if mirror is not None:
                mirror.done(command)
            if command.table == PEER:
                self._flipped |= {c for c, pod in self.records.pods.items() if pod.set}
