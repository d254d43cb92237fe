"""The compiled form of policies says what the specification says."""

from __future__ import annotations

import pytest
from hypothesis import given

from kmesh.abi.layout import Dimension, Reason
from kmesh.core.conjunctions import MOST_BITS, TooManyRules, conjunctions
from kmesh.core.model import Action, Authorization, Match, PolicyScope, StringMatch
from kmesh.core.policy import Attempt, Verdict, covers, judge
from kmesh.core.policy_sets import PolicySet, summaries
from kmesh.core.steps import finish
from tests.core import policies as some


def longest(rows: dict[tuple[bytes, int], int], addr: bytes) -> int:
    return rows[max((cidr for cidr in rows if covers(cidr, addr)), key=lambda cidr: cidr[1])]


def first(row: int, start: int, end: int) -> int | None:
    """The first bit in words [start, end)."""
    inside = row >> 64 * start & (1 << 64 * (end - start)) - 1
    return 64 * start + (inside & -inside).bit_length() - 1 if inside else None


def evaluate(compiled: PolicySet, attempt: Attempt) -> Verdict:
    """What the program does with the rows."""
    other, ports = finish(compiled.ports())
    row = compiled.identity(attempt.identity) & ports.get(attempt.port, other)
    row &= longest(finish(compiled.prefixes(Dimension.SOURCE)), attempt.source)
    row &= longest(finish(compiled.prefixes(Dimension.DESTINATION)), attempt.destination)
    dry: str | None = None
    bit = first(row, compiled.allow, compiled.dry_deny)
    if bit is not None:
        dry = compiled.owners[bit]
    elif compiled.dry_allows and not compiled.allows:
        dry = "" if first(row, compiled.dry_deny, compiled.words) is None else None
    bit = first(row, 0, compiled.deny)
    if bit is not None:
        return Verdict(Reason.DENIED, compiled.owners[bit], dry_run=dry)
    if not compiled.allows:
        return Verdict(Reason.ALLOWED, dry_run=dry)
    bit = first(row, compiled.deny, compiled.allow)
    if bit is None:
        return Verdict(Reason.NOT_ALLOWED, dry_run=dry)
    return Verdict(Reason.ALLOWED, compiled.owners[bit], dry_run=dry)


@given(some.policy_lists(), some.attempts)
def test_bits_decide_as_the_specification(
    policies: tuple[Authorization, ...], attempt: Attempt
) -> None:
    assert evaluate(PolicySet(policies), attempt) == judge(policies, attempt)._replace(rule=-1)


@given(some.policy_lists())
def test_a_packed_row_says_which_words_are_not_zero(policies: tuple[Authorization, ...]) -> None:
    compiled = PolicySet(policies)
    row = compiled.identity(None)
    raw = compiled.pack(row)
    head = 8 * summaries(compiled.words)
    assert len(raw) == head + 8 * compiled.words
    assert int.from_bytes(raw[head:], "little") == row
    summary = int.from_bytes(raw[:head], "little")
    for word in range(compiled.words):
        assert bool(summary >> word & 1) == bool(row >> 64 * word & (1 << 64) - 1)


def ports(count: int) -> tuple[Match, ...]:
    return tuple(
        Match(destination_ports=(port,), source_ips=((bytes(16), 0),)) for port in range(count)
    )


def policy(*rules: tuple[tuple[Match, ...], ...], action: Action = Action.ALLOW) -> Authorization:
    return Authorization("a/p", "a", PolicyScope.NAMESPACE, action, rules)


def test_too_many_combinations_are_refused_before_they_are_made() -> None:
    with pytest.raises(TooManyRules, match=f"{MOST_BITS} fit"):
        PolicySet([policy((ports(5000), ports(5000), ports(5000)))])


def test_matches_of_one_kind_take_one_bit() -> None:
    many = tuple(Match(principals=(StringMatch("exact", f"p{i}"),)) for i in range(50_000))
    assert len(finish(conjunctions(policy((many,))))) == 1
    negative = tuple(Match(not_destination_ports=(port,)) for port in range(3))
    assert len(finish(conjunctions(policy((negative,))))) == 3


def pairs(count: int) -> tuple[Match, ...]:
    """Matches of which no two differ in one kind alone."""
    return tuple(
        Match(destination_ports=(i,), source_ips=((i.to_bytes(16, "big"), 128),))
        for i in range(count)
    )


def test_ten_thousand_rules_have_a_bit_each() -> None:
    compiled = PolicySet([policy(*(((match,),) for match in pairs(10_000)))])
    assert compiled.words == 157
    other, rows = finish(compiled.ports())
    assert other == 0
    assert rows[77] == 1 << 77


def test_rules_that_differ_in_one_kind_share_a_bit() -> None:
    many = [((Match(source_ips=((i.to_bytes(16, "big"), 128),)),),) for i in range(20_000)]
    (bit,) = finish(conjunctions(policy(*many)))
    assert len(bit[0].source_ips) == 20_000
    negative = [((Match(destination_ports=(i,), not_namespaces=(A,)),),) for i in (1, 2)]
    assert len(finish(conjunctions(policy(*negative)))) == 1
    assert len(finish(conjunctions(policy(*negative, ((Match(destination_ports=(3,)),),))))) == 2


def test_too_many_rules_are_refused_after_they_are_joined() -> None:
    with pytest.raises(TooManyRules, match="20000 combinations of rules or more"):
        PolicySet([policy(*(((match,),) for match in pairs(20_000)))])


A = StringMatch("exact", "a")
