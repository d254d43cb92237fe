"""The compiled sets that guards lead to: made when needed, removed a rest after they were used."""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from kmesh.abi.layout import MatchKey, PrefixKey
from kmesh.core.commands import PREFIX, Drop, Op, Phase
from kmesh.core.conjunctions import TooManyRules
from kmesh.core.guard_rows import Rules
from kmesh.core.policy_sets import PolicySet
from kmesh.core.segments import Full
from kmesh.core.steps import advance

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from kmesh.core.guard_names import GuardNames
    from kmesh.core.guard_status import GuardLimits
    from kmesh.core.peers import Peers
    from kmesh.core.policy_index import Content
    from kmesh.core.segments import Segments
    from kmesh.core.steps import Enough, Steps

REST = 2.0  # seconds; a program that has just read a guard still looks its set up


class TooBig(Exception):
    """Policies that do not fit a table, and what to raise."""


class GuardSets:
    """Sets by the policies in them. ``closed`` says why a content cannot be had."""

    def __init__(
        self, rows: Segments, names: GuardNames, peers: Peers, limits: GuardLimits
    ) -> None:
        self.rows, self.limits = rows, limits
        self.rules: dict[Content, Rules] = {}
        self.closed: dict[Content, str] = {}
        self._names, self._peers = names, peers
        self._retired: deque[tuple[float, Callable[[], Iterator[Op]], Callable[[float], None]]]
        self._retired = deque()
        self._stale: list[Op] = []
        self._stale_blocks: list[tuple[int, int]] = []
        self._last = self._resting = 0
        self._compiling: tuple[Content, Steps[Rules]] | None = None
        self._placing: Rules | None = None

    @property
    def values(self) -> int:
        """Rows of km_prefix and km_match, those that are about to go included."""
        return sum(len(rules.values) for rules in self.rules.values()) + self._resting

    @property
    def most_bits(self) -> int:
        """Combinations of rules in the largest set."""
        return max((rules.compiled.full.bit_count() for rules in self.rules.values()), default=0)

    @property
    def next_due(self) -> float | None:
        """When something has rested."""
        return self._retired[0][0] if self._retired else None

    def adopt(
        self,
        used: Iterable[int],
        rules: Collection[tuple[str, bytes]],
        blocks: Iterable[tuple[int, int]],
    ) -> None:
        """Sets that lie in the kernel, their rows in these blocks of km_row: in force until
        ``retire``; their ids are not used again."""
        in_force = set(used)
        self._last = max(in_force, default=0)
        orphans: list[Op] = []
        for table, key in rules:
            set_ = (PrefixKey if table == PREFIX else MatchKey).unpack(key).set
            self._last = max(self._last, set_)
            drop = Op(Phase.DROP_RULES, Drop(table, key), None)
            (self._stale if set_ in in_force else orphans).append(drop)
        if orphans:  # of agents that were killed: nothing leads there
            self._retired.append((0.0, partial(iter, orphans), lambda _: None))
        self._stale_blocks = [block for block in blocks if self.rows.reserve(*block)]

    def need(self, contents: Collection[Content], enough: Enough) -> bool:
        """Compile what is new until there is enough for now, or say in ``closed`` why it cannot be
        had; whether nothing is left. What is compiled and no longer needed is forgotten.

        Raises Full with nothing taken for the set that did not fit.
        """
        if self._compiling is not None and self._compiling[0] not in contents:
            self._abort()
        for content in contents:
            while content and content not in self.rules and content not in self.closed:
                if not self._compile(content, enough):
                    return False
        return True

    def settled(self) -> bool:
        """Whether what lies in the kernel is what ``rules`` hold, and nothing more."""
        return not (self._retired or self._stale or self._stale_blocks)

    def value(self, table: str, key: bytes) -> bytes | None:
        """The row of km_prefix or km_match that some set needs."""
        set_ = (PrefixKey if table == PREFIX else MatchKey).unpack(key).set
        found = (rules for rules in self.rules.values() if rules.id == set_)
        return next((rules.values.get((table, key)) for rules in found), None)

    def refuse(self, contents: Iterable[Content]) -> None:
        """km_row cannot grow: what is not there yet is closed."""
        why = f"km_row is full: --max-policy-words is {self.rows.capacity}"
        self.closed |= {content: why for content in contents if content not in self.rules}

    def take_ops(self) -> Iterator[Op]:
        """Operations that put what is new."""
        return chain.from_iterable([rules.take_ops() for rules in self.rules.values()])

    def retire(self, used: Collection[Content], now: float) -> None:
        """What is not used any more may be removed after a rest."""
        for content in [content for content in self.rules if content not in used]:
            rules = self.rules.pop(content)
            self._resting += len(rules.values)
            self._retired.append((now + REST, partial(self._drops, rules), rules.release))
        self.closed = {content: why for content, why in self.closed.items() if content in used}
        if self._stale or self._stale_blocks:
            release = partial(self._release, self._stale_blocks)
            self._retired.append((now + REST, partial(iter, self._stale), release))
            self._stale, self._stale_blocks = [], []

    def take_due(self, now: float, known: Collection[str]) -> Iterator[Op]:
        """Operations of what has rested; its rows are given back, and rest once more.

        Policies that are not ``known`` and in no set lose their names.
        """
        ops: list[Iterator[Op]] = []
        while self._retired and self._retired[0][0] <= now:
            _, drops, release = self._retired.popleft()
            ops.append(drops())
            release(now)
        if ops and not self._retired:
            used = {owner for rules in self.rules.values() for owner in rules.compiled.owners}
            ops.append(iter(self._names.forget({*used, *known})))
        return chain.from_iterable(ops)

    def _compile(self, content: Content, enough: Enough) -> bool:
        """A part of the work for one content, the one that was begun first; whether it is done."""
        if self._compiling is None:
            self._compiling = content, self._steps(content)
        content, steps = self._compiling
        try:
            done, rules = advance(steps, enough)
        except (TooManyRules, TooBig) as error:
            self._abort()
            self.closed[content] = str(error)
            return True
        except Full:
            self._abort()
            raise
        if done and rules is not None:
            self._last = rules.id
            self.rules[content] = rules
            self._compiling = self._placing = None
        return done

    def _steps(self, content: Content) -> Steps[Rules]:
        compiled = yield from PolicySet.slowly(content)
        if compiled.peers:
            _require(self._peers.size(), self.limits.peers, "km_peer", "peers")
            yield from self._peers.learn_all()
        policies = len(self._names.used.union(content.keys))
        _require(policies, self.limits.policies, "km_policy", "policies")
        rules = self._placing = Rules(self._last + 1, compiled, self.rows)
        yield from rules.place(self._names.policy, self._names.identities)
        values = self.values + len(rules.values)
        _require(values, self.limits.values, "km_match", "policy-values")
        return rules

    def _abort(self) -> None:
        """Forget what is being compiled; what it has taken so far is free again."""
        if self._placing is not None:
            self._placing.release(0.0)
        self._compiling = self._placing = None

    def _drops(self, rules: Rules) -> Iterator[Op]:
        self._resting -= len(rules.values)
        return rules.drop_ops()

    def _release(self, blocks: list[tuple[int, int]], now: float) -> None:
        for base, words in blocks:
            self.rows.release(base, words, now)


def _require(need: int, most: int, table: str, option: str) -> None:
    if need > most:
        raise TooBig(f"{table} would need {need} rows, --max-{option} is {most}")
