"""Plans the tables of authorization: from policies and enrolled pods to one record per address.

The law of the planner holds here too: what a record leads to is written before it, and removed a
rest after nothing leads to it any more, so a connection meets the old set of policies or the new
one. Every operation may be repeated; one that failed is tried again before anything later.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.check import seal_last
from kmesh.abi.layout import CidrKey, Guard, GuardMode, MatchKey, PrefixKey, Reason
from kmesh.core.commands import EXEMPT, GUARD, LINK, PEER, PREFIX, Drop, Op, Phase, Put
from kmesh.core.guard_names import GuardNames
from kmesh.core.guard_rows import Rules
from kmesh.core.peers import Peers
from kmesh.core.policy_index import Applicable, PolicyIndex
from kmesh.core.policy_sets import PolicySet, TooManyRules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kmesh.core.model import Authorization, Workload
    from kmesh.core.pods import Pods
    from kmesh.core.segments import Segments
    from kmesh.core.store import Store
    from kmesh.core.tables import FoundGuards, Outcome

SLICE = 256
REST = 2.0
FIRST_RETRY, LAST_RETRY = 0.05, 5.0
Content = tuple["Authorization", ...]


class TooBig(Exception):
    """Policies that do not fit a table, and what to raise."""


class PodGuard(NamedTuple):
    """How a pod is guarded: ``mode``, ``why`` it is closed if it is, and its policies."""

    cookie: int
    uid: str
    mode: GuardMode
    reason: Reason
    policies: tuple[str, ...]
    missing: tuple[str, ...]
    set: int
    why: str = ""


class GuardLimits(NamedTuple):
    """Rows that the tables hold at most: values that sets name, peers, policies."""

    values: int = 1 << 17
    peers: int = 1 << 18
    policies: int = 1 << 14


class GuardStatistics(NamedTuple):
    """The state of authorization as the planner sees it."""

    started: bool
    policies: int
    sets: int
    guards: int
    peers: int
    identities: int
    values: int
    limits: GuardLimits
    row_words: int
    row_capacity: int
    closed: int
    failing: str


class Guards:
    """The planner of authorization. ``changed`` is told the cookies of the pods whose verdicts
    may differ now, once that is in the kernel."""

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
        self.limits = limits or GuardLimits()
        self.index = PolicyIndex()
        self.names = GuardNames()
        self.peers = Peers(store, self.names)
        self.rows = rows
        self.started = False
        self.guards: dict[bytes, bytes] = {}
        self.links: set[int] = set()
        self.pods_guarded: dict[int, PodGuard] = {}
        self.failing = ""
        self.relink = 0.0
        self._store, self._pods, self._workload_id = store, pods, workload_id
        self.exempt, self._missing_open = set(exempt), missing_open
        self._exempted: set[tuple[bytes, int]] = set()
        self._rules: dict[Content, Rules] = {}
        self._closed: dict[Content, str] = {}
        self._retired: deque[tuple[float, Callable[[], Iterator[Op]], Callable[[float], None]]]
        self._retired = deque()
        self._stale: list[Op] = []
        self._stale_words = 0
        self._last_set = self._resting = 0
        self._queue: Iterator[Op] = iter(())
        self._running = False
        self._slice: list[Op] = []
        self._dirty = True
        self.changed: Callable[[set[int]], None] = lambda _: None
        self._flipped: set[int] = set()
        self._attempts, self._due = 0, 0.0

    def adopt(self, found: FoundGuards) -> None:
        """Take over what the kernel holds: records stay in force until they are planned anew, and
        what they lead to is removed after that."""
        self.guards, self.links = dict(found.guards), set(found.links)
        self.names.adopt(found.names)
        self.names.counted = bool(found.guards)
        self.peers.adopt(found.peers)
        self._exempted = {(k.addr, k.plen) for k in map(CidrKey.unpack, found.exempt)}
        sets = [Guard.unpack(value).set for value in found.guards.values()]
        for table, key in found.rules:
            sets.append((PrefixKey if table == PREFIX else MatchKey).unpack(key).set)
        self._last_set = max(sets, default=0)
        self._stale = [Op(Phase.DROP_RULES, Drop(table, key), None) for table, key in found.rules]
        self._stale_words = found.row_words
        if found.row_words:
            self.rows.reserve(0, found.row_words)

    def put(self, items: Iterable[tuple[str, Authorization | None]]) -> None:
        """New, changed and (None) removed policies."""
        self._dirty |= self.index.apply(items)

    def mark(self) -> None:
        """Something that guards depend on has changed: an enrolment, or a pod's workload."""
        self._dirty = True

    def idle(self) -> bool:
        """Whether all that is known is in the kernel."""
        return not self.started or not (self._dirty or self._running or self.peers.dirty)

    def next_due(self) -> float | None:
        """When there is something to do although nothing has changed."""
        if not self.started:
            return None
        times = [self._due] if self._slice and self._due else []
        times += [self._retired[0][0]] if self._retired else []
        times += [self.relink] if self.relink else []
        return min(times, default=None)

    def next_ops(self, now: float) -> list[Op]:
        """One slice of operations, in order; raises Full when km_row must grow first."""
        if not self.started or (self._slice and now < self._due):
            return []
        self.rows.wake(now)
        if self.relink and now >= self.relink:
            self.relink, self._dirty = 0.0, True
        if not self._slice:
            self._slice = list(islice(self._queue, SLICE))
        if not self._slice:
            self._settled()
            self._queue = self._plan(now)
            self._slice = list(islice(self._queue, SLICE))
            self._running = bool(self._slice)
        return self._slice

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
        why = f"km_row is full: --max-policy-words is {self.rows.capacity}"
        self._closed |= {c: why for c in self._contents() if c not in self._rules}
        self._dirty = True

    def statistics(self) -> GuardStatistics:
        """For metrics and dumps."""
        rows = self.rows.statistics()
        closed = sum(pod.mode is GuardMode.REFUSE for pod in self.pods_guarded.values())
        return GuardStatistics(
            self.started, len(self.index.policies), len(self._rules), len(self.guards),
            len(self.peers.rows), len(self.names.identities), self._values(), self.limits,
            rows.used, rows.capacity, closed,
            self.failing,
        )  # fmt: skip

    def _plan(self, now: float) -> Iterator[Op]:
        """All operations for what has changed since the last plan."""
        wanted: dict[int, Content | None] = {}
        flips: list[Op] = []
        if self._dirty:
            wanted = self._wanted()
            self._need(wanted)
        self.peers.prepare(self._rules.values())
        due = self._take_due(now)
        ops = [*self.names.take_ops(), *self._exemptions()]
        for rules in self._rules.values():
            ops += rules.take_ops()
        if self._dirty:
            self._dirty = False
            flips = self._flips(wanted)
            self._retire(set(wanted.values()), now)
        return chain(due, ops, self.peers.plan(), flips)

    def _wanted(self) -> dict[int, Content | None]:
        """What guards each pod whose workload is known: policies, or None when it is closed."""
        wanted: dict[int, Content | None] = {}
        guarded = {}
        for cookie, uid in self._pods.wanted.items():
            workload = self._store.workloads.get(uid)
            if workload is None:
                if cookie in self.pods_guarded:  # its last policies stay in force
                    guarded[cookie] = self.pods_guarded[cookie]
                continue
            applicable = self.index.of(workload)
            reason = self._closing(applicable)
            content = None if reason else applicable.policies
            wanted[cookie] = content
            why = self._closed.get(applicable.policies, "")
            guarded[cookie] = _describe(cookie, uid, applicable, reason, why)
        self.pods_guarded = guarded
        return wanted

    def _closing(self, applicable: Applicable) -> Reason | None:
        if applicable.missing and not self._missing_open:
            return Reason.WAITING
        return Reason.OVER_CAPACITY if applicable.policies in self._closed else None

    def _contents(self) -> set[Content]:
        found = (self._store.workloads.get(uid) for uid in self._pods.wanted.values())
        return {self.index.of(workload).policies for workload in found if workload}

    def _need(self, wanted: dict[int, Content | None]) -> None:
        """Compile what is new. Raises Full with nothing taken for the set that did not fit."""
        for content in set(wanted.values()) - self._rules.keys():
            if not content or content in self._closed:
                continue
            try:
                compiled = PolicySet(content)
                if compiled.peers:
                    self._require(self.peers.size(), self.limits.peers, "km_peer", "peers")
                    self.peers.learn_all()
                policies = len(self.names.used | {policy.key for policy in content})
                self._require(policies, self.limits.policies, "km_policy", "policies")
                rules = Rules(
                    self._last_set + 1, compiled, self.rows, self.names.policy,
                    self.names.identities,
                )  # fmt: skip
                try:
                    values = self._values() + len(rules.keys)
                    self._require(values, self.limits.values, "km_match", "policy-values")
                except TooBig:
                    rules.release(0.0)
                    raise
            except (TooManyRules, TooBig) as error:
                self._closed[content] = str(error)
                self._close(content, wanted)
                continue
            self._last_set += 1
            self._rules[content] = rules

    @staticmethod
    def _require(need: int, most: int, table: str, option: str) -> None:
        if need > most:
            raise TooBig(f"{table} would need {need} rows, --max-{option} is {most}")

    def _values(self) -> int:
        """Rows of km_prefix and km_match, those that are about to go included."""
        return sum(len(rules.keys) for rules in self._rules.values()) + self._resting

    def _close(self, content: Content, wanted: dict[int, Content | None]) -> None:
        for cookie in [cookie for cookie, each in wanted.items() if each == content]:
            wanted[cookie] = None
            self.pods_guarded[cookie] = self.pods_guarded[cookie]._replace(
                mode=GuardMode.REFUSE, reason=Reason.OVER_CAPACITY, why=self._closed[content]
            )

    def _flips(self, wanted: dict[int, Content | None]) -> list[Op]:
        """Records and links as they should be, then those that should not be."""
        puts, links, keep = [], [], set[bytes]()
        for cookie, uid in self._pods.wanted.items():
            workload = self._store.workloads.get(uid)
            if cookie not in wanted or workload is None:
                keep |= {a for a, v in self.guards.items() if self._belongs(v, uid)}
                continue
            record = self._record(cookie, uid, wanted[cookie])
            addresses = self._addresses(workload)
            for addr in addresses:
                keep.add(addr)
                value = seal_last(addr, record.pack())
                if self.guards.get(addr) != value:
                    puts.append(Op(Phase.GUARD, Put(GUARD, addr, value), None))
                    self._flipped.add(cookie)
            if addresses and cookie not in self.links:
                links.append(Op(Phase.LINK, Put(LINK, cookie.to_bytes(8, "little"), b""), cookie))
        drops = [
            Op(Phase.UNLINK, Drop(LINK, cookie.to_bytes(8, "little")), cookie)
            for cookie in sorted(self.links - self._pods.wanted.keys())
        ]
        drops += [Op(Phase.DROP_GUARD, Drop(GUARD, a), None) for a in self.guards.keys() - keep]
        return [*puts, *links, *drops]

    def _addresses(self, workload: Workload) -> list[bytes]:
        """Those by which the pod's namespace knows it: a host's namespace is not the pod's."""
        network, claims = workload.profile.network, self._store.claims
        return [a for a in workload.addresses if claims.owner(network, a) == workload.uid]

    def _belongs(self, value: bytes, uid: str) -> bool:
        return Guard.unpack(value).workload == self._workload_id(uid)

    def _record(self, cookie: int, uid: str, content: Content | None) -> Guard:
        workload = self._workload_id(uid)
        if content:
            rules = self._rules[content]
            self.pods_guarded[cookie] = self.pods_guarded[cookie]._replace(set=rules.id)
            return rules.guard(workload)
        mode = GuardMode.REFUSE if content is None else GuardMode.ALLOW
        reason = self.pods_guarded[cookie].reason
        return Guard(workload, 0, mode, reason, *(0,) * 12)

    def _exemptions(self) -> list[Op]:
        def op(kind: type[Put] | type[Drop], cidr: tuple[bytes, int]) -> Op:
            key = CidrKey(cidr[1], cidr[0]).pack()
            if kind is Drop:
                return Op(Phase.DROP_RULES, Drop(EXEMPT, key), None)
            return Op(Phase.RULES, Put(EXEMPT, key, key[4:] + key[:4]), None)

        ops = [op(Put, cidr) for cidr in sorted(self.exempt - self._exempted)]
        ops += [op(Drop, cidr) for cidr in sorted(self._exempted - self.exempt)]
        self._exempted = set(self.exempt)
        return ops

    def _retire(self, used: set[Content | None], now: float) -> None:
        for content in [content for content in self._rules if content not in used]:
            rules = self._rules.pop(content)
            self._resting += len(rules.keys)
            self._retired.append((now + REST, partial(self._drops, rules), rules.release))
        contents = self._contents()
        self._closed = {c: why for c, why in self._closed.items() if c in contents}
        if self._stale or self._stale_words:
            stale, words = self._stale, self._stale_words

            def release(at: float) -> None:
                if words:
                    self.rows.release(0, words, at)

            self._retired.append((now + REST, lambda: iter(stale), release))
            self._stale, self._stale_words = [], 0

    def _take_due(self, now: float) -> Iterator[Op]:
        """Operations of what has rested; its rows are given back, and rest once more."""
        ops: list[Iterator[Op]] = []
        while self._retired and self._retired[0][0] <= now:
            _, drops, release = self._retired.popleft()
            ops.append(drops())
            release(now)
        if ops and not self._retired:
            used = {owner for rules in self._rules.values() for owner in rules.compiled.owners}
            ops.append(iter(self.names.forget(used | self.index.policies.keys())))
        return chain.from_iterable(ops)

    def _drops(self, rules: Rules) -> Iterator[Op]:
        self._resting -= len(rules.keys)
        return iter(rules.drop_ops())

    def _settled(self) -> None:
        """Everything planned is in the kernel: who is judged otherwise now?"""
        if self._flipped:
            cookies, self._flipped = self._flipped, set()
            self.changed(cookies)

    def _done(self, op: Op) -> None:
        command = op.command
        if isinstance(command, Put | Drop):
            put = isinstance(command, Put)
            if command.table == GUARD:
                if isinstance(command, Put):
                    self.guards[command.key] = command.value
                else:
                    self.guards.pop(command.key, None)
            elif command.table == LINK:
                cookie = int.from_bytes(command.key, "little")
                (self.links.add if put else self.links.discard)(cookie)
            elif command.table == PEER:
                self.peers.done(command)
                self._flipped |= {c for c, pod in self.pods_guarded.items() if pod.set}


def _describe(
    cookie: int, uid: str, applicable: Applicable, reason: Reason | None, why: str
) -> PodGuard:
    keys = tuple(policy.key for policy in applicable.policies)
    if reason is not None:
        if reason is Reason.WAITING:
            why = f"waiting for {', '.join(applicable.missing)}"
        return PodGuard(cookie, uid, GuardMode.REFUSE, reason, keys, applicable.missing, 0, why)
    mode = GuardMode.EVALUATE if keys else GuardMode.ALLOW
    return PodGuard(cookie, uid, mode, Reason.ALLOWED, keys, applicable.missing, 0)
