"""A policy set as rows of the kernel's tables: where each lies, and the operations that put it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.check import seal_last
from kmesh.abi.layout import (
    Dimension,
    Guard,
    GuardMode,
    Match,
    MatchKey,
    Prefix,
    PrefixKey,
    Reason,
)
from kmesh.core.commands import MATCH, PREFIX, Drop, Op, Phase, Put, WriteRows
from kmesh.core.policy_sets import EVERYWHERE, NOBODY_IN_PARTICULAR, PolicySet, summaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from kmesh.core.model import Identity
    from kmesh.core.segments import Segments
    from kmesh.core.steps import Steps

SET_BITS = 64  # of set and dimension in a prefix key
PIECE = 1 << 16  # bytes that one operation writes at most
ALLOWS, PEERS, DESTINATIONS, DRY_ALLOWS = 1, 2, 4, 8


class Block(NamedTuple):
    """Words [base, base + words) of km_row."""

    base: int
    words: int


class Rules:
    """One compiled set with an id of its own, and where it lies: whole after ``place``.

    ``extend`` may add rows for identities that were not known before; nothing else changes.
    """

    def __init__(self, id_: int, compiled: PolicySet, rows: Segments) -> None:
        self.id = id_
        self.compiled = compiled
        self.blocks: list[Block] = []
        self.values: dict[tuple[str, bytes], bytes] = {}
        self._width = summaries(compiled.words) + compiled.words
        self._places: dict[int, int] = {}
        self._rows = rows
        self._ops: list[Op] = []
        self._known = compiled.identity(NOBODY_IN_PARTICULAR)
        self._identities: set[int] = set()

    def guard(self, workload: int) -> Guard:
        """The record of a workload with these rules; its check word is 0."""
        compiled, place = self.compiled, self._places
        flags = ALLOWS * compiled.allows | PEERS * compiled.peers
        flags |= DESTINATIONS * self._destinations | DRY_ALLOWS * compiled.dry_allows
        return Guard(
            workload, self.id, GuardMode.EVALUATE, Reason.ALLOWED, flags, compiled.words,
            compiled.deny, compiled.allow, compiled.dry_deny, place[self._source],
            place[self._known], place[compiled.identity(None)], place[self._port],
            place[self._destination], self._owners, 0,
        )  # fmt: skip

    def take_ops(self) -> list[Op]:
        """Operations that put what was added since the last call; rows come first."""
        ops, self._ops = self._ops, []
        return ops

    def extend(self, identities: Iterable[tuple[Identity, int]]) -> None:
        """Rows of identities that peers are going to have. Raises Full with nothing taken."""
        new = [(i, n) for i, n in identities if n not in self._identities]
        rows = {n: self.compiled.identity(i) for i, n in new}
        unplaced = sorted(set(rows.values()) - self._places.keys())
        self._placed(unplaced, [self.compiled.pack(row) for row in unplaced])
        for number, row in rows.items():
            self._identity(number, row)

    def words(self) -> dict[int, bytes]:
        """What lies in km_row, by its first word."""
        found = {base: self.compiled.pack(row) for row, base in self._places.items()}
        return found | ({self._owners: self._owner_words} if self._owner_words else {})

    def drop_ops(self) -> Iterator[Op]:
        """Operations that remove everything but the rows."""
        return (Op(Phase.DROP_RULES, Drop(table, key), None) for table, key in self.values)

    def release(self, now: float) -> None:
        """Give the rows back; nothing leads to them any more."""
        for block in self.blocks:
            self._rows.release(block.base, block.words, now)

    def place(
        self, policy_id: Callable[[str], int], identities: Mapping[Identity, int]
    ) -> Steps[None]:
        """Give everything its place, in steps. One that raises Full has taken nothing; what was
        taken before that is to be released."""
        compiled = self.compiled
        sources = yield from compiled.prefixes(Dimension.SOURCE)
        destinations = yield from compiled.prefixes(Dimension.DESTINATION)
        self._port, ports = yield from compiled.ports()
        self._source, self._destination = sources.pop(EVERYWHERE), destinations.pop(EVERYWHERE)
        self._destinations = bool(destinations)
        peers: dict[int, int] = {}
        for identity, number in list(identities.items()) if compiled.peers else ():
            peers[number] = compiled.identity(identity)
            yield
        distinct = {self._port, self._source, self._destination, self._known}
        distinct |= {compiled.identity(None), *sources.values(), *destinations.values()}
        packed: list[bytes] = []
        new = sorted({*distinct, *ports.values(), *peers.values()})
        for row in new:
            packed.append(compiled.pack(row))
            yield
        self._placed(new, packed)
        yield from self._name_owners(policy_id)
        for dimension, prefixes in (
            (Dimension.SOURCE, sources), (Dimension.DESTINATION, destinations),
        ):  # fmt: skip
            for cidr, row in prefixes.items():
                self._prefix(dimension, cidr, row)
                yield
        for port, row in ports.items():
            self._match(Dimension.PORT, port, row)
            yield
        for number, row in peers.items():
            self._identity(number, row)
            yield
        if compiled.peers:  # those that came meanwhile
            self.extend(identities.items())

    def _name_owners(self, policy_id: Callable[[str], int]) -> Steps[None]:
        words = bytearray()
        for key in self.compiled.owners:
            words += (policy_id(key) if key else 0).to_bytes(4, "little")
            yield
        self._owner_words = bytes(words)
        self._owners = self._take(self._owner_words)

    def _placed(self, rows: Sequence[int], packed: Sequence[bytes]) -> None:
        """These rows, none of which has a place yet, lie one after the other."""
        if rows:
            base = self._take(b"".join(packed))
            self._places |= {row: base + i * self._width for i, row in enumerate(rows)}

    def _take(self, content: bytes) -> int:
        """A block with this content; nothing (a set without rules) lies nowhere."""
        words = len(content) // 8
        if not words:
            return 0
        block = Block(self._rows.take(words), words)
        self.blocks.append(block)
        for at in range(0, len(content), PIECE):
            write = WriteRows(block.base + at // 8, content[at : at + PIECE])
            self._ops.append(Op(Phase.RULES, write, None))
        return block.base

    def _identity(self, number: int, row: int) -> None:
        self._identities.add(number)
        if row != self._known:
            self._match(Dimension.IDENTITY, number, row)

    def _prefix(self, dimension: Dimension, cidr: tuple[bytes, int], row: int) -> None:
        base, plen = cidr
        key = PrefixKey(SET_BITS + plen, self.id, dimension, base).pack()
        covers = base + plen.to_bytes(4, "little")
        value = Prefix(covers, self.id, dimension, self._places[row]).pack()
        self._put(PREFIX, key, value)

    def _match(self, dimension: Dimension, value: int, row: int) -> None:
        key = MatchKey(self.id, dimension, value).pack()
        self._put(MATCH, key, seal_last(key, Match(self._places[row], 0).pack()))

    def _put(self, table: str, key: bytes, value: bytes) -> None:
        self.values[table, key] = value
        self._ops.append(Op(Phase.RULES, Put(table, key, value), None))
