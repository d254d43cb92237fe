"""Policies of a mesh file: both spellings of string matches, every kind, and errors."""

from __future__ import annotations

import pytest

from kmesh.controlplane.file import parse
from kmesh.core import addr
from kmesh.core.model import Action, Match, PolicyScope, StringMatch
from kmesh.errors import MeshFileError

HEAD = """\
policies:
- name: p
  namespace: n
  scope: WorkloadSelector
  action: Deny
  dryRun: true
  rules:
"""


def _match(text: str) -> Match:
    (policy,) = parse((HEAD + f"  - - - {text}\n").encode(), "m").policies
    return policy.rules[0][0][0]


def test_the_frame() -> None:
    (policy,) = parse((HEAD + "  - - - {}\n      - {}\n    - - {}\n").encode(), "m").policies
    assert (policy.key, policy.namespace, policy.dry_run) == ("n/p", "n", True)
    assert (policy.scope, policy.action) == (PolicyScope.WORKLOAD_SELECTOR, Action.DENY)
    assert policy.rules == (((Match(), Match()), (Match(),)),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!Exact a/b", StringMatch("exact", "a/b")),
        ("{exact: a/b}", StringMatch("exact", "a/b")),
        ("{Prefix: a}", StringMatch("prefix", "a")),
        ("!Suffix b", StringMatch("suffix", "b")),
        ("!Presence ", StringMatch("presence")),
        ("{presence: {}}", StringMatch("presence")),
    ],
)
def test_string_matches(text: str, expected: StringMatch) -> None:
    assert _match(f"notPrincipals: [{text}]") == Match(not_principals=(expected,))


def test_the_other_kinds() -> None:
    text = (
        "{sourceIps: [10.1.2.3/8], notDestinationIps: ['fd00::/16', 10.0.0.1],"
        " destinationPorts: [80, 443], notServiceAccounts: [n/sa]}"
    )
    assert _match(text) == Match(
        source_ips=(addr.network(addr.parse("10.0.0.0"), 8),),
        not_destination_ips=((addr.parse("fd00::"), 16), (addr.parse("10.0.0.1"), 128)),
        destination_ports=(80, 443),
        not_service_accounts=(("n", "sa"),),
    )


@pytest.mark.parametrize(
    ("match", "part"),
    [
        ("{ports: [1]}", "rules[0][0][0].ports: unknown key"),
        ("{namespaces: [plain]}", "namespaces[0]: must be one of !Exact"),
        ("{namespaces: [!Regex x]}", "unknown match 'regex'"),
        ("{namespaces: [{exact: a, prefix: b}]}", "a map of one"),
        ("{namespaces: [!Exact '']}", "must not be empty"),
        ("{sourceIps: [10.0.0.0/40]}", "sourceIps[0]"),
        ("{destinationPorts: [70000]}", "from 0 to 65535"),
        ("{serviceAccounts: [x]}", "must be <namespace>/<service account>"),
    ],
)
def test_errors(match: str, part: str) -> None:
    with pytest.raises(MeshFileError) as caught:
        _match(match)
    assert caught.value.sentence.startswith("m:8: policies[0].rules[0][0][0]")
    assert part in caught.value.sentence


def test_all_six_keys_are_required() -> None:
    with pytest.raises(MeshFileError, match="the key 'rules' is missing"):
        parse(HEAD.replace("  rules:\n", "").encode(), "m")
