"""A policy as an OR of ANDs, in as few of them as can be: each becomes one bit of a policy set."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from kmesh.core.model import Match

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kmesh.core.model import Authorization
    from kmesh.core.steps import Steps

MOST_WORDS = 256
MOST_BITS = 64 * MOST_WORDS
MOST_COMBINATIONS = 4 * MOST_BITS  # before those are joined that can be
POSITIVE = (
    "namespaces", "principals", "service_accounts", "source_ips", "destination_ips",
    "destination_ports",
)  # fmt: skip

Conjunction = tuple[Match, ...]


class TooManyRules(Exception):
    """The policies of one workload need ``bits`` conjunctions or more; MOST_BITS fit."""

    def __init__(self, bits: int) -> None:
        super().__init__(f"{bits} combinations of rules or more, {MOST_BITS} fit")
        self.bits = bits


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
