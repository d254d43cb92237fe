"""Ranking: the contract's table, its worked example, and a second reading of the same text."""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.core.model import Profile, Scope
from kmesh.core.rank import rank

HERE = Profile("net", "c1", "n1", "r1", "z1", "s1")
NRZ = (Scope.NETWORK, Scope.REGION, Scope.ZONE)

words = st.sampled_from(("", "a", "b"))
profiles = st.builds(Profile, words, words, words, words, words, words)
preferences = st.lists(st.sampled_from(Scope), max_size=6)


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (HERE, 5),
        (HERE._replace(zone="x"), 4),
        (HERE._replace(region="x"), 3),
        (HERE._replace(network="x"), 2),
        (HERE._replace(network="x", zone="x"), 1),
        (HERE._replace(network="x", region="x"), 0),
    ],
    ids=["all three", "network+region", "network only", "region+zone", "region", "none"],
)
def test_the_worked_example(there: Profile, expected: int) -> None:
    assert rank(NRZ, HERE, there)[0] == expected


def test_the_walk_goes_in_order_and_adds_one_each() -> None:
    preference = (Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE, Scope.CLUSTER)
    assert rank(preference, HERE, HERE) == (5, True)
    assert rank(preference, HERE, HERE._replace(node="x")) == (3, False)


def test_the_first_mismatch_ends_the_walk() -> None:
    assert rank((Scope.REGION, Scope.ZONE), HERE, HERE._replace(region="x")) == (0, False)
    assert rank((Scope.ZONE, Scope.REGION), HERE, HERE._replace(region="x")) == (1, False)


def test_a_leading_network_mismatch_does_not_end_the_walk() -> None:
    assert rank((Scope.NETWORK, Scope.NODE), HERE, HERE._replace(network="x")) == (1, False)


def test_a_later_network_is_a_scope_like_any_other() -> None:
    preference = (Scope.REGION, Scope.NETWORK, Scope.ZONE)
    assert rank(preference, HERE, HERE) == (3, True)
    assert rank(preference, HERE, HERE._replace(network="x")) == (1, False)


def test_every_scope_matched_is_said_before_the_bonus() -> None:
    """Rank 5 of network+region+zone+subzone is more than 4, yet it is no full match."""
    four = (Scope.NETWORK, Scope.REGION, Scope.ZONE, Scope.SUBZONE)
    assert rank(four, HERE, HERE._replace(zone="x")) == (5, False)
    assert rank(four, HERE, HERE) == (7, True)


def test_scopes_are_compared_on_their_own_and_empty_equals_empty() -> None:
    elsewhere = HERE._replace(region="x")
    assert rank((Scope.ZONE,), HERE, elsewhere) == (1, True)
    blank = Profile(cluster="")
    assert rank((Scope.REGION, Scope.NODE, Scope.CLUSTER), blank, blank) == (3, True)
    assert rank((Scope.CLUSTER,), HERE, HERE._replace(cluster="x")) == (0, False)


def test_no_preference_is_matched_by_everybody() -> None:
    assert rank((), HERE, Profile()) == (0, True)


def second_reading(preference: list[Scope], source: Profile, endpoint: Profile) -> tuple[int, bool]:
    """The same rules over the list of matches, with no walk and no exits."""
    equal = [
        scope is not Scope.UNSPECIFIED
        and getattr(source, scope.name.lower()) == getattr(endpoint, scope.name.lower())
        for scope in preference
    ]
    leading = preference[:1] == [Scope.NETWORK]
    rest = equal[1:] if leading else equal
    count = len(list(takewhile(bool, rest))) + (leading and equal[0])
    bonus = (len(preference) - 1) * (leading and equal[0])
    return count + bonus, count == len(preference)


@settings(max_examples=500)
@given(preferences, profiles, profiles)
def test_a_second_reading_agrees(
    preference: list[Scope], source: Profile, endpoint: Profile
) -> None:
    assert rank(preference, source, endpoint) == second_reading(preference, source, endpoint)
