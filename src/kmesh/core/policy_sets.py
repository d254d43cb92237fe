"""Policies as bits: every conjunction of predicates one bit, every value of a dimension one row.

The layout is that of km_guard in bpf_c/abi.h. Rows are Python integers here, bit 0 first; cost is
that of a few operations on integers as wide as the set for each value, not for each pair.
"""

from __future__ import annotations

from itertools import product
from math import prod
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh.abi.layout import Dimension
from kmesh.core.model import Action, Identity, Match, StringMatch
from kmesh.core.policy import fits, principal
from kmesh.core.steps import Steps, finish

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kmesh.core.model import Authorization

MOST_WORDS = 256
MOST_BITS = 64 * MOST_WORDS
MOST_COMBINATIONS = 4 * MOST_BITS  # before those are joined that can be
EVERYWHERE = (bytes(16), 0)
NOBODY_IN_PARTICULAR = Identity("\0", "\0", "\0")
POSITIVE = (
    "namespaces", "principals", "service_accounts", "source_ips", "destination_ips",
    "destination_ports",
)  # fmt: skip

Conjunction = tuple[Match, ...]
Cidr = tuple[bytes, int]


class TooManyRules(Exception):
    """The policies of one workload need ``bits`` conjunctions or more; MOST_BITS fit."""

    def __init__(self, bits: int) -> None:
        super().__init__(f"{bits} combinations of rules or more, {MOST_BITS} fit")
        self.bits = bits


class Layer(NamedTuple):
    """The n-th predicate of every bit on one kind: which bits a value satisfies.

    ``free`` bits want nothing; ``wanted`` and ``unwanted`` say for a value which bits name it.
    """

    free: int
    wanted: dict[Any, int]
    unwanted: dict[Any, int]
    loose: tuple[tuple[StringMatch, ...], tuple[StringMatch, ...]]  # patterns that are not exact


class PolicySet:
    """The compiled form of some policies; ``words`` in all, then where each group ends."""

    def __init__(self, policies: Sequence[Authorization]) -> None:
        """All at once. Raises TooManyRules."""
        finish(self._compile(policies))

    @classmethod
    def slowly(cls, policies: Sequence[Authorization]) -> Steps[PolicySet]:
        """The same in steps."""
        made = cls.__new__(cls)
        yield from made._compile(policies)
        return made

    def _compile(self, policies: Sequence[Authorization]) -> Steps[None]:
        groups = [
            [p for p in policies if p.dry_run is dry and p.action is action]
            for dry in (False, True)
            for action in (Action.DENY, Action.ALLOW)
        ]
        self.owners: list[str] = []
        bits: list[Conjunction] = []
        ends = []
        for group in groups:
            for policy in group:
                found = yield from conjunctions(policy)
                bits += found
                self.owners += [policy.key] * len(found)
                yield
            padding = -len(bits) % 64
            ends.append((len(bits) + padding) // 64)
            if ends[-1] > MOST_WORDS:
                raise TooManyRules(len(bits))
            bits += [(Match(),)] * padding
            self.owners += [""] * padding
        self.deny, self.allow, self.dry_deny, self.words = ends
        self.allows, self.dry_allows = bool(groups[1]), bool(groups[3])
        self.full = _mask(i for i, owner in enumerate(self.owners) if owner)
        self._layers: dict[str, list[Layer]] = {}
        for kind in POSITIVE:
            self._layers[kind] = yield from layers(bits, kind)
        self.peers = any(self._layers[k] for k in ("namespaces", "principals", "service_accounts"))

    def prefixes(self, dimension: Dimension) -> Steps[dict[Cidr, int]]:
        """Row of every prefix that some rule names, and of everything else under ::/0."""
        kind = "source_ips" if dimension is Dimension.SOURCE else "destination_ips"
        found = self._layers[kind]
        named = _values(found)
        rows: dict[Cidr, int] = {}
        above: list[tuple[Cidr, list[tuple[int, int]]]] = []
        for cidr in sorted({EVERYWHERE, *named}):  # what holds a prefix comes before it
            while above and not _holds(above[-1][0], cidr):
                above.pop()
            before = above[-1][1] if above else [(layer.free, 0) for layer in found]
            now = [
                (yes | layer.wanted.get(cidr, 0), no | layer.unwanted.get(cidr, 0))
                for layer, (yes, no) in zip(found, before, strict=True)
            ]
            above.append((cidr, now))
            rows[cidr] = self._all(now)
            yield
        return rows

    def ports(self) -> Steps[tuple[int, dict[int, int]]]:
        """(row of any other port, row of each port that some rule names)."""
        found = self._layers["destination_ports"]
        rows: dict[int, int] = {}
        for port in _values(found):
            rows[port] = self._all(
                (layer.free | layer.wanted.get(port, 0), layer.unwanted.get(port, 0))
                for layer in found
            )
            yield
        return self._all((layer.free, 0) for layer in found), rows

    def identity(self, identity: Identity | None) -> int:
        """Row of a peer; None is a peer without identity."""
        if identity is None:
            kinds = ("namespaces", "principals", "service_accounts")
            return self._all((layer.free, 0) for kind in kinds for layer in self._layers[kind])
        account = (identity.namespace, identity.service_account)
        strings = {"namespaces": identity.namespace, "principals": principal(identity)}
        found = [
            (
                layer.free | _fitting(layer.wanted, layer.loose[0], value),
                _fitting(layer.unwanted, layer.loose[1], value),
            )
            for kind, value in strings.items()
            for layer in self._layers[kind]
        ]
        found += [
            (layer.free | layer.wanted.get(account, 0), layer.unwanted.get(account, 0))
            for layer in self._layers["service_accounts"]
        ]
        return self._all(found)

    def pack(self, row: int) -> bytes:
        """A row as it lies in km_row: summary, then words."""
        words = row.to_bytes(8 * self.words, "little")
        found = (i for i, word in enumerate(Struct(f"<{self.words}Q").unpack(words)) if word)
        return _mask(found).to_bytes(8 * summaries(self.words), "little") + words

    def _all(self, parts: Iterable[tuple[int, int]]) -> int:
        row = self.full
        for yes, no in parts:
            row &= yes & ~no
        return row


def summaries(words: int) -> int:
    """Words of summary in front of a row."""
    return -(-words // 64)


def conjunctions(policy: Authorization) -> Steps[list[Conjunction]]:
    """The policy as an OR of ANDs; one bit each. Raises TooManyRules before there are too many."""
    found: list[Conjunction] = []
    for rule in policy.rules:
        clauses = [merge(clause) for clause in rule if clause]
        count = len(found) + prod(len(clause) for clause in clauses)
        if count > MOST_COMBINATIONS:
            raise TooManyRules(count)
        found += product(*clauses)
        yield
    return (yield from join(found))


def join(bits: Sequence[Conjunction]) -> Steps[list[Conjunction]]:
    """The same with fewer bits: those of one match that differ in the values of one positive kind
    alone become one, as ten thousand rules for one prefix each do."""
    found = list(dict.fromkeys(bits))
    for kind in POSITIVE:
        if sum(len(bit) == 1 and bool(getattr(bit[0], kind)) for bit in found) < 2:
            continue
        values: dict[Conjunction, list[Any]] = {}
        joined: dict[Conjunction, None] = {}
        for bit in found:
            wanted = getattr(bit[0], kind) if len(bit) == 1 else ()
            rest = _with(bit, kind, [True]) if wanted else bit
            joined[rest] = None
            if wanted:
                values.setdefault(rest, []).extend(wanted)
            yield
        found = [_with(bit, kind, values[bit]) if bit in values else bit for bit in joined]
    return found


def _with(bit: Conjunction, kind: str, values: Iterable[Any]) -> Conjunction:
    different: dict[str, Any] = {kind: tuple(dict.fromkeys(values))}
    return (bit[0]._replace(**different),)


def merge(clause: Sequence[Match]) -> list[Match]:
    """The matches of a clause, those about one and the same kind as one; empty ones are false."""
    single: dict[str, list[Any]] = {}
    rest = []
    for match in clause:
        kinds = [name for name, value in zip(Match._fields, match, strict=True) if value]
        if len(kinds) == 1 and kinds[0] in POSITIVE:
            single.setdefault(kinds[0], []).extend(getattr(match, kinds[0]))
        elif kinds:
            rest.append(match)
    return [*(Match(**{kind: tuple(values)}) for kind, values in single.items()), *rest]


def layers(bits: Sequence[Conjunction], kind: str) -> Steps[list[Layer]]:
    """Every bit's predicates on one kind; as many layers as the bit with the most has."""
    count = max((len(conjunction) for conjunction in bits), default=0)
    found = []
    for level in range(count):
        free: list[int] = []
        wanted: dict[Any, list[int]] = {}
        unwanted: dict[Any, list[int]] = {}
        for index, conjunction in enumerate(bits):
            match = conjunction[level] if level < len(conjunction) else None
            yes = getattr(match, kind) if match else ()
            no = getattr(match, f"not_{kind}") if match else ()
            if not yes:
                free.append(index)
            for value in yes:
                wanted.setdefault(value, []).append(index)
            for value in no:
                unwanted.setdefault(value, []).append(index)
            yield
        if wanted or unwanted:
            loose = _loose(wanted), _loose(unwanted)
            yes_, no_ = (yield from _masks(wanted)), (yield from _masks(unwanted))
            found.append(Layer(_mask(free), yes_, no_, loose))
    return found


def _masks(members: dict[Any, list[int]]) -> Steps[dict[Any, int]]:
    masks = {}
    for value, found in members.items():
        masks[value] = _mask(found)
        yield
    return masks


def _mask(indexes: Iterable[int]) -> int:
    """The number with these bits, which rise; a sum would touch all of it for each."""
    found = list(indexes)
    room = bytearray(found[-1] // 8 + 1 if found else 0)
    for index in found:
        room[index >> 3] |= 1 << (index & 7)
    return int.from_bytes(room, "little")


def _loose(patterns: Iterable[Any]) -> tuple[StringMatch, ...]:
    return tuple(p for p in patterns if isinstance(p, StringMatch) and p.kind != "exact")


def _fitting(masks: dict[Any, int], loose: Iterable[StringMatch], value: str) -> int:
    found = masks.get(StringMatch("exact", value), 0)
    for pattern in loose:
        if fits(pattern, value):
            found |= masks[pattern]
    return found


def _values(found: Iterable[Layer]) -> set[Any]:
    return {value for layer in found for part in (layer.wanted, layer.unwanted) for value in part}


def _holds(outer: Cidr, inner: Cidr) -> bool:
    """Whether a prefix lies in another."""
    (base, plen), (addr, length) = outer, inner
    shift = 128 - plen
    return (
        length >= plen
        and int.from_bytes(addr, "big") >> shift == int.from_bytes(base, "big") >> shift
    )
