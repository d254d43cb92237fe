"""Plans the tables of authorization: from policies and enrolled pods to one record per address.

The law of the planner holds here too: what a record leads to is written before it, and removed a
rest after nothing leads to it any more, so a connection meets the old set of policies or the new
one. Every operation may be repeated; one that failed is tried again before anything later.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from kmesh.abi.check import seal_last
from kmesh.abi.layout import CidrKey, Guard, GuardMode, Reason
from kmesh.core.claims import HOST_NETWORK
from kmesh.core.commands import EXEMPT, GUARD, LINK, OWN, PEER, Drop, Op, Phase, Put
from kmesh.core.guard_names import GuardNames
from kmesh.core.guard_sets import GuardSets
from kmesh.core.guard_status import (
    GuardLimits,
    GuardStatistics,
    PodGuard,
    describe,
    outside,
    unknown,
)
from kmesh.core.own import OwnAddresses
from kmesh.core.peers import Peers
from kmesh.core.policy import Attempt, Verdict, exempt, judge
from kmesh.core.policy_index import Applicable, PolicyIndex
from kmesh.core.steps import never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kmesh.core.model import Authorization, Workload
    from kmesh.core.pods import Pods
    from kmesh.core.policy_index import Content
    from kmesh.core.segments import Segments
    from kmesh.core.steps import Enough
    from kmesh.core.store import Store
    from kmesh.core.tables import FoundGuards, Outcome

SLICE = 64  # operations, of which some make the kernel allocate memory for every CPU: 2 ms
FIRST_RETRY, LAST_RETRY = 0.05, 5.0


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
        self.started = False
        self.guards: dict[bytes, bytes] = {}
        self.links: dict[int, bytes] = {}
        self.own = OwnAddresses()
        self.pods_guarded: dict[int, PodGuard] = {}
        self.failing = ""
        self.relink = 0.0
        self._places: dict[int, bytes] = {}
        self._store, self._pods, self._workload_id = store, pods, workload_id
        self.exempt, self._missing_open = set(exempt), missing_open
        self._repairs: list[Op] = []
        self._adopted = False
        self.exempted: set[tuple[bytes, int]] = set()
        self._queue: Iterator[Op | None] = iter(())
        self._running = False
        self._slice: list[Op] = []
        self._dirty = True
        self.changed: Callable[[set[int]], None] = lambda _: None
        self._flipped: set[int] = set()
        self._left: set[int] = set()
        self._attempts, self._due = 0, 0.0

    def adopt(self, found: FoundGuards) -> None:
        """Take over what the kernel holds: records stay in force until they are planned anew, and
        what they lead to is removed after that."""
        self.guards, self.links = dict(found.guards), dict(found.links)
        self.own.adopt(found.own)
        self.names.adopt(found.names)
        self.names.counted = bool(found.guards)
        self.peers.adopt(found.peers)
        self._adopted = self.peers.on
        self.exempted = {(k.addr, k.plen) for k in map(CidrKey.unpack, found.exempt)}
        # The agent before may have ended between a change and the end of what that forbade.
        self._left = set(self.links)
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
        if self.places(cookie) != place:
            self._places[cookie] = place
            self._dirty = True

    def places(self, cookie: int) -> bytes:
        """Where a pod is to be guarded: as told, else as it was found."""
        found = self._places.get(cookie, self.links.get(cookie, b""))
        return b"" if b"?" in found else found

    def addresses(self, uid: str) -> list[bytes]:
        """By which addresses a pod of this workload is guarded; none while that is not known."""
        workload = self._store.workloads.get(uid)
        return [] if workload is None else self._addresses(workload)

    def found(self, cookie: int, place: bytes | None) -> None:
        """A pod is not guarded where it was: there instead, or nowhere."""
        self._places.setdefault(cookie, self.places(cookie))
        if place is None:
            self.links.pop(cookie, None)
        else:
            self.links[cookie] = place
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
        return not self.started or bool(
            self._dirty or self._running or self._slice or self._repairs
        )

    def idle(self) -> bool:
        """Whether all that is known is in the kernel."""
        return not self.started or not (self._dirty or self._running or self.peers.dirty)

    def next_due(self) -> float | None:
        """When there is something to do although nothing has changed."""
        if not self.started:
            return None
        times = [self._due] if self._slice and self._due else []
        times += [self.sets.next_due] if self.sets.next_due else []
        times += [self.relink] if self.relink else []
        return min(times, default=None)

    def next_ops(self, now: float, enough: Enough = never) -> list[Op]:
        """One slice of operations, in order; raises Full when km_row must grow first. It ends when
        there is enough for now; without operations there may still be something to do (``idle``).
        """
        if not self.started or (self._slice and now < self._due):
            return []
        self.sets.rows.wake(now)
        if self.relink and now >= self.relink:
            self.relink, self._dirty = 0.0, True
        if not self._slice and self._ended(enough):
            self._settled()
            self._queue = self._plan(now, enough)
            if self._ended(enough):
                self._settled()
        return self._slice

    def _ended(self, enough: Enough) -> bool:
        """Fill a slice from the plan; whether there was nothing left in it."""
        self._running = True
        for op in self._queue:
            if op is not None:
                self._slice.append(op)
            if len(self._slice) == SLICE or enough():
                return False
        self._running = bool(self._slice)
        return not self._running

    def report(self, outcome: Outcome, now: float) -> None:
        """What became of the slice: from the failed operation on it is tried again."""
        for op in self._slice[: outcome.done]:
            self._done(op)
        self._slice = self._slice[outcome.done :]
        if outcome.error is None:
            self.failing, self._attempts, self._due = "", 0, 0.0
            return
        self.failing = str(outcome.error)
        if self._slice and self._slice[0].phase in (Phase.LINK, Phase.UNLINK):
            del self._slice[0]  # one namespace that cannot be reached holds nobody up
            self.relink = now + LAST_RETRY
            return
        self._due = now + min(FIRST_RETRY * 2**self._attempts, LAST_RETRY)
        self._attempts += 1

    def refuse(self) -> None:
        """km_row cannot grow: whoever needs new rows is closed."""
        self.sets.refuse(self._contents())
        self._dirty = True

    def explain(self, source: bytes, destination: bytes, port: int) -> Verdict | None:
        """What a connection between 16-byte addresses meets by what is wanted now, and which rule
        decides; None when the destination belongs to no workload."""
        workload = self.peers.owner(destination)
        if workload is None:
            return None
        if exempt(source, destination, self.exempt):
            return Verdict(Reason.EXEMPT)
        applicable = self.index.of(workload)
        closed = self.closing(applicable)
        if closed is not None:
            return Verdict(closed)
        peer = self.peers.owner(source)
        identity = peer.identity if peer else None
        return judge(applicable.policies, Attempt(source, destination, port, identity))

    def statistics(self) -> GuardStatistics:
        """For metrics and dumps."""
        rows = self.sets.rows.statistics()
        closed = sum(pod.mode is GuardMode.REFUSE for pod in self.pods_guarded.values())
        return GuardStatistics(
            self.started, len(self.index.policies), len(self.names.used), self.sets.most_bits,
            len(self.sets.rules), len(self.guards),
            len(self.peers.rows), len(self.names.identities), self.sets.values,
            self.sets.limits, rows.used, rows.capacity, closed, self.failing,
        )  # fmt: skip

    def _plan(self, now: float, enough: Enough) -> Iterator[Op | None]:
        """All operations for what has changed since the last plan; while sets are compiled, those
        that need none of them."""
        wanted: dict[int, Content | None] = {}
        flips: list[Op] = []
        ready = not self._dirty or self.sets.need(self._contents(), enough)
        if ready:
            self._flipped |= self._left
            self._left = set()
        if ready and self._dirty:
            wanted = self._wanted()
        self.peers.prepare(self.sets.rules.values())
        due = self.sets.take_due(now, self.index.policies.keys())
        repairs, self._repairs = self._repairs, []
        ops = chain(self.names.take_ops(), self._exemptions(), self.sets.take_ops(), repairs)
        if ready and self._dirty:
            self._dirty = False
            flips = self._flips(wanted)
            self.sets.retire(self._contents(), now)
        if self._adopted and (flips or not ready):
            # The sets of the last agent have no rows for identities that came meanwhile.
            self._adopted = not ready
            return chain(due, ops, flips, self.peers.plan() if ready else ())
        return chain(due, ops, self.peers.plan(), flips)

    def _wanted(self) -> dict[int, Content | None]:
        """What guards each pod whose workload is known: policies, or None when it is closed."""
        wanted: dict[int, Content | None] = {}
        guarded = {}
        for cookie, uid in self._pods.wanted.items():
            found = self.status(cookie, uid)
            if found is not None:
                guarded[cookie] = found
            workload = self._store.workloads.get(uid)
            if workload is not None and not workload.traits & HOST_NETWORK:
                applicable = self.index.of(workload)
                wanted[cookie] = None if self.closing(applicable) else applicable.policies
        self.pods_guarded = guarded
        return wanted

    def status(self, cookie: int, uid: str) -> PodGuard | None:
        """How a pod should be guarded by what is known now; None for one that is not guarded and
        whose workload nobody knows."""
        workload = self._store.workloads.get(uid)
        if workload is None:
            return unknown(cookie, uid) if cookie in self.links else None
        applicable = self.index.of(workload)
        if workload.traits & HOST_NETWORK:
            return outside(cookie, uid, applicable)
        why = self.sets.closed.get(applicable.policies, "")
        return describe(cookie, uid, applicable, self.closing(applicable), why)

    def closing(self, applicable: Applicable) -> Reason | None:
        """Why a pod of these policies lets nobody in; None when the policies decide."""
        if applicable.missing and not self._missing_open:
            return Reason.WAITING
        return Reason.OVER_CAPACITY if applicable.policies in self.sets.closed else None

    def _contents(self) -> dict[Content, None]:
        found = (self._store.workloads.get(uid) for uid in self._pods.wanted.values())
        return {self.index.of(workload).policies: None for workload in found if workload}

    def _flips(self, wanted: dict[int, Content | None]) -> list[Op]:
        """Records and links as they should be, then those that should not be."""
        links: list[Op] = []
        records: dict[bytes, tuple[int, Guard]] = {}
        for cookie, uid in self._pods.wanted.items():
            workload = self._store.workloads.get(uid)
            if workload is None:  # its connections are nobody's now: what is open is closed
                mine = [addr for addr, value in self.guards.items() if self.belongs(value, uid)]
            else:
                mine = self._addresses(workload)
            if mine:
                content = wanted.get(cookie)
                if content:
                    set_ = self.sets.rules[content].id
                    self.pods_guarded[cookie] = self.pods_guarded[cookie]._replace(set=set_)
                record = self.record(cookie, uid, content)
                assert record is not None  # all that is wanted is compiled
                records |= dict.fromkeys(mine, (cookie, record))
                place = self.places(cookie)
                if self.links.get(cookie) != place:
                    key = cookie.to_bytes(8, "little")
                    links.append(Op(Phase.LINK, Put(LINK, key, place), cookie))
        known = {
            cookie: self._addresses(workload)
            for cookie, uid in self._pods.wanted.items()
            if (workload := self._store.workloads.get(uid)) is not None
        }
        puts, gone = self.own.plan(known)
        for addr, (cookie, record) in records.items():
            value = seal_last(addr, record.pack())
            if self.guards.get(addr) != value:
                puts.append(Op(Phase.GUARD, Put(GUARD, addr, value), None))
                self._flipped.add(cookie)
        drops = [
            Op(Phase.UNLINK, Drop(LINK, cookie.to_bytes(8, "little")), cookie)
            for cookie in sorted(self.links.keys() - self._pods.wanted.keys())
        ]
        drops += [
            Op(Phase.DROP_GUARD, Drop(GUARD, a), None) for a in self.guards.keys() - records.keys()
        ]
        return [*puts, *links, *drops, *gone]

    def _addresses(self, workload: Workload) -> list[bytes]:
        """Those by which the pod's namespace knows it: a host's namespace is not the pod's."""
        network, claims = workload.profile.network, self._store.claims
        return [a for a in workload.addresses if claims.owner(network, a) == workload.uid]

    def belongs(self, value: bytes, uid: str) -> bool:
        """Whether a record of km_guard is about this workload."""
        return Guard.unpack(value).workload == self._workload_id(uid)

    def record(self, cookie: int, uid: str, content: Content | None) -> Guard | None:
        """What guards a pod with these policies, or (None) lets nobody in; None while the policies
        are not compiled. Its check word is 0."""
        workload = self._workload_id(uid)
        if content:
            rules = self.sets.rules.get(content)
            return None if rules is None else rules.guard(workload)
        mode = GuardMode.REFUSE if content is None else GuardMode.ALLOW
        known = self.pods_guarded.get(cookie)
        reason = known.reason if known else Reason.UNLISTED
        return Guard(workload, 0, mode, reason, *(0,) * 12)

    def _exemptions(self) -> list[Op]:
        def op(kind: type[Put] | type[Drop], cidr: tuple[bytes, int]) -> Op:
            key = CidrKey(cidr[1], cidr[0]).pack()
            if kind is Drop:
                return Op(Phase.DROP_RULES, Drop(EXEMPT, key), None)
            return Op(Phase.RULES, Put(EXEMPT, key, key[4:] + key[:4]), None)

        ops = [op(Put, cidr) for cidr in sorted(self.exempt - self.exempted)]
        ops += [op(Drop, cidr) for cidr in sorted(self.exempted - self.exempt)]
        self.exempted = set(self.exempt)
        return ops

    def _settled(self) -> None:
        """Everything planned is in the kernel: who is judged otherwise now?"""
        flipped, self._flipped = self._flipped, set()
        pods = {cookie: pod for cookie in flipped if (pod := self.pods_guarded.get(cookie))}
        if judged := {c for c, pod in pods.items() if pod.mode is not GuardMode.ALLOW}:
            self.changed(judged)

    def _done(self, op: Op) -> None:
        command = op.command
        if isinstance(command, Put | Drop):
            if command.table == GUARD:
                if isinstance(command, Put):
                    self.guards[command.key] = command.value
                else:
                    self.guards.pop(command.key, None)
            elif command.table == OWN:
                self.own.done(command)
            elif command.table == LINK:
                cookie = int.from_bytes(command.key, "little")
                if isinstance(command, Put):
                    self.links[cookie] = command.value
                else:
                    self.links.pop(cookie, None)
                    self._places.pop(cookie, None)
            elif command.table == PEER:
                self.peers.done(command)
                self._flipped |= {c for c, pod in self.pods_guarded.items() if pod.set}
