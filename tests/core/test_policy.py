"""The reference of authorization, row by row of the specification."""

from __future__ import annotations

import pytest

from kmesh.abi.layout import Reason
from kmesh.core import addr
from kmesh.core.model import Action, Authorization, Identity, Match, PolicyScope, StringMatch
from kmesh.core.policy import Attempt, judge, matching_rule

ME = Identity("cluster.local", "a", "b")
ATTEMPT = Attempt(addr.parse("10.0.0.1"), addr.parse("10.0.0.2"), 80, ME)
PLAIN = ATTEMPT._replace(identity=None)
YES, NO = Match(destination_ports=(80,)), Match(destination_ports=(81,))


def exact(*values: str) -> tuple[StringMatch, ...]:
    return tuple(StringMatch("exact", value) for value in values)


def cidr(text: str, plen: int) -> tuple[tuple[bytes, int], ...]:
    return (addr.network(addr.parse(text), plen),)


def policy(
    *rules: tuple[tuple[Match, ...], ...], action: Action = Action.ALLOW, key: str = "a/p",
    dry_run: bool = False,
) -> Authorization:  # fmt: skip
    return Authorization(key, "a", PolicyScope.NAMESPACE, action, rules, dry_run)


@pytest.mark.parametrize(
    ("rules", "rule"),
    [
        ((), -1),
        (((),), 0),
        ((((),),), 0),
        ((((Match(),),),), -1),
        ((((YES,), (NO,)),), -1),
        ((((YES, NO), (NO, YES)),), 0),
        ((((NO,),), ((YES,),)), 1),
        ((((Match(), YES),),), 0),
    ],
    ids=[
        "no rules never match", "a rule without clauses matches", "so does an empty clause",
        "an empty match is false", "clauses are ANDed", "matches are ORed", "rules are ORed",
        "an empty match spoils nothing",
    ],
)  # fmt: skip
def test_structure(rules: tuple[tuple[tuple[Match, ...], ...], ...], rule: int) -> None:
    assert matching_rule(policy(*rules), ATTEMPT) == rule


@pytest.mark.parametrize(
    ("match", "with_identity", "plaintext"),
    [
        (Match(principals=exact("cluster.local/ns/a/sa/b")), True, False),
        (Match(principals=exact("spiffe://cluster.local/ns/a/sa/b")), False, False),
        (Match(principals=(StringMatch("prefix", "cluster.local/ns/a/"),)), True, False),
        (Match(principals=(StringMatch("suffix", "/sa/b"),)), True, False),
        (Match(principals=(StringMatch("suffix", "/SA/B"),)), False, False),
        (Match(principals=(StringMatch("presence"),)), True, False),
        (Match(not_principals=(StringMatch("presence"),)), False, True),
        (Match(not_principals=exact("cluster.local/ns/a/sa/c")), True, True),
        (Match(namespaces=exact("a")), True, False),
        (Match(namespaces=exact("b", "c")), False, False),
        (Match(not_namespaces=exact("a")), False, True),
        (Match(service_accounts=(("a", "b"),)), True, False),
        (Match(service_accounts=(("b", "b"),)), False, False),
        (Match(not_service_accounts=(("a", "b"),)), False, True),
        (Match(source_ips=cidr("10.0.0.0", 31)), True, True),
        (Match(source_ips=cidr("10.0.0.2", 32)), False, False),
        (Match(source_ips=cidr("0.0.0.0", 0)), True, True),
        (Match(source_ips=cidr("::", 0)), True, True),
        (Match(not_source_ips=cidr("10.0.0.1", 32)), False, False),
        (Match(destination_ips=cidr("10.0.0.2", 32)), True, True),
        (Match(not_destination_ips=cidr("10.0.0.2", 32)), False, False),
        (Match(not_destination_ports=(80,)), False, False),
        (Match(destination_ports=(80,), namespaces=exact("a")), True, False),
        (Match(destination_ports=(81,), namespaces=exact("a")), False, False),
        (
            Match(namespaces=exact("a"), not_principals=exact("cluster.local/ns/a/sa/b")),
            False,
            False,
        ),
    ],
)
def test_kinds(match: Match, with_identity: bool, plaintext: bool) -> None:
    one = policy((((match,)),))
    assert (matching_rule(one, ATTEMPT) == 0) is with_identity
    assert (matching_rule(one, PLAIN) == 0) is plaintext


ALLOW, ALLOW_NOT = policy(((YES,),), key="a/allow"), policy(((NO,),), key="a/not")
DENY = policy(((YES,),), action=Action.DENY, key="a/deny")
DENY_NOT = policy(((NO,),), action=Action.DENY, key="a/deny-not")


@pytest.mark.parametrize(
    ("policies", "reason", "key"),
    [
        ((), Reason.ALLOWED, ""),
        ((DENY, ALLOW), Reason.DENIED, "a/deny"),
        ((ALLOW, DENY), Reason.DENIED, "a/deny"),
        ((DENY_NOT,), Reason.ALLOWED, ""),
        ((ALLOW_NOT,), Reason.NOT_ALLOWED, ""),
        ((ALLOW_NOT, ALLOW), Reason.ALLOWED, "a/allow"),
        ((policy(),), Reason.NOT_ALLOWED, ""),
        ((policy(action=Action.DENY),), Reason.ALLOWED, ""),
        ((ALLOW_NOT._replace(dry_run=True),), Reason.ALLOWED, ""),
        ((DENY._replace(dry_run=True), ALLOW), Reason.ALLOWED, "a/allow"),
    ],
)
def test_order_of_decisions(policies: tuple[Authorization, ...], reason: Reason, key: str) -> None:
    verdict = judge(policies, ATTEMPT)
    assert (verdict.reason, verdict.policy) == (reason, key)
    assert verdict.allowed is (reason is Reason.ALLOWED)


@pytest.mark.parametrize(
    ("policies", "dry_run"),
    [
        ((ALLOW,), None),
        ((DENY._replace(dry_run=True),), "a/deny"),
        ((DENY_NOT._replace(dry_run=True),), None),
        ((ALLOW_NOT._replace(dry_run=True),), ""),
        ((ALLOW._replace(dry_run=True),), None),
        ((ALLOW_NOT._replace(dry_run=True), ALLOW), None),
    ],
)
def test_dry_run_says_what_would_be_denied(
    policies: tuple[Authorization, ...], dry_run: str | None
) -> None:
    verdict = judge(policies, ATTEMPT)
    assert verdict.allowed
    assert verdict.dry_run == dry_run
