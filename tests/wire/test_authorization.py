"""Policies: the same as the generated classes say, and nothing that is half understood."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.core import addr
from kmesh.core.events import AUTHORIZATION
from kmesh.core.model import Action, Authorization, Match, PolicyScope, Rejected, StringMatch
from kmesh.wire import authorization
from kmesh.wire.fields import Malformed
from kmesh.wire.gen.google.protobuf import Empty
from kmesh.wire.gen.istio import security as sec
from tests.native.test_scan import chunks, flipped, flips
from tests.wire import google
from tests.wire.messages import entry, extensions, field, response, words
from tests.wire.reading import read

string_matches = st.one_of(
    *[
        st.builds(lambda k, v: sec.StringMatch(**{k: v}), st.just(kind), words)
        for kind in ("exact", "prefix", "suffix")
    ],
    st.just(sec.StringMatch(presence=Empty())),
)
cidrs = st.one_of(
    st.builds(lambda a, n: sec.Address(address=a, length=n),
              st.binary(min_size=4, max_size=4), st.integers(0, 32)),
    st.builds(lambda a, n: sec.Address(address=a, length=n),
              st.binary(min_size=16, max_size=16), st.integers(0, 128)),
)  # fmt: skip
accounts = st.builds(sec.ServiceAccountMatch, namespace=words, service_account=words)
numbers = st.lists(st.integers(0, 65535), max_size=3)
matches = st.builds(
    sec.Match,
    namespaces=st.lists(string_matches, max_size=2),
    not_namespaces=st.lists(string_matches, max_size=2),
    principals=st.lists(string_matches, max_size=2),
    not_principals=st.lists(string_matches, max_size=2),
    source_ips=st.lists(cidrs, max_size=2),
    not_source_ips=st.lists(cidrs, max_size=2),
    destination_ips=st.lists(cidrs, max_size=2),
    not_destination_ips=st.lists(cidrs, max_size=2),
    destination_ports=numbers,
    not_destination_ports=numbers,
    service_accounts=st.lists(accounts, max_size=2),
    not_service_accounts=st.lists(accounts, max_size=2),
    extensions=st.lists(extensions, max_size=1),
)
policies = st.builds(
    sec.Authorization,
    name=words,
    namespace=words,
    scope=st.sampled_from(list(sec.Scope)),
    action=st.sampled_from(list(sec.Action)),
    rules=st.lists(
        st.builds(
            sec.Rule,
            clauses=st.lists(
                st.builds(sec.Clause, matches=st.lists(matches, max_size=2)), max_size=2
            ),
        ),
        max_size=2,
    ),
    dry_run=st.booleans(),
    extensions=st.lists(extensions, max_size=1),
)


def _cidr(message: sec.Address) -> tuple[bytes, int]:
    base = addr.from_wire(message.address)
    plen = message.length + (96 if len(message.address) == 4 else 0)
    bits = "".join(f"{byte:08b}" for byte in base)[:plen].ljust(128, "0")
    return int(bits, 2).to_bytes(16, "big"), plen


def _text(message: sec.StringMatch) -> StringMatch:
    for kind in ("exact", "prefix", "suffix"):
        if getattr(message, kind) is not None:
            return StringMatch(kind, getattr(message, kind))
    return StringMatch("presence")


def _match(message: sec.Match) -> Match:
    values: dict[str, Any] = {}
    for name in Match._fields:
        items = getattr(message, name)
        if name.endswith("ips"):
            items = map(_cidr, items)
        elif name.endswith("accounts"):
            items = ((one.namespace, one.service_account) for one in items)
        elif not name.endswith("ports"):
            items = map(_text, items)
        values[name] = tuple(items)
    return Match(**values)


def plain(message: sec.Authorization) -> Authorization:
    """The policy that a message means."""
    return Authorization(
        f"{message.namespace}/{message.name}",
        message.namespace,
        PolicyScope(int(message.scope)),
        Action(int(message.action)),
        tuple(
            tuple(tuple(map(_match, clause.matches)) for clause in rule.clauses)
            for rule in message.rules
        ),
        message.dry_run,
    )


def well_formed(raw: bytes) -> bool:
    try:
        authorization.decode(raw)
    except Malformed:
        return False
    except ValueError:
        return google.accepts("istio.security.Authorization", raw)  # refused before its end
    return True


@settings(max_examples=150, deadline=None)
@given(policies)
def test_same_policy_as_the_generated_classes(message: sec.Authorization) -> None:
    assert authorization.decode(bytes(message)) == plain(message)


@settings(max_examples=200, deadline=None)
@given(policies, flips)
def test_damaged_policies_are_judged_as_google_does(
    message: sec.Authorization, bits: list[tuple[int, int]]
) -> None:
    raw = flipped(bytes(message), bits)
    assert well_formed(raw) == google.accepts("istio.security.Authorization", raw)


@settings(max_examples=400, deadline=None)
@given(chunks)
def test_garbage_is_judged_as_google_does(chunk: bytes) -> None:
    for raw in (chunk, field(5, chunk), field(5, field(1, field(2, chunk)))):
        assert well_formed(raw) == google.accepts("istio.security.Authorization", raw)


def _policy(match: sec.Match | None = None, **values: Any) -> bytes:
    rules = [sec.Rule(clauses=[sec.Clause(matches=[match])])] if match else []
    return bytes(sec.Authorization(**{"name": "p", "namespace": "n", "rules": rules} | values))


V4 = b"\x0a\x00\x00\x01"
BAD = {
    "policy scope 3 is unknown": _policy(scope=sec.Scope(3)),
    "policy action 2 is unknown": _policy(action=sec.Action(2)),
    "10.0.0.1/33: prefix is longer than the address": _policy(
        sec.Match(source_ips=[sec.Address(address=V4, length=33)])
    ),
    "::1/129: prefix is longer than the address": _policy(
        sec.Match(not_destination_ips=[sec.Address(address=bytes(15) + b"\x01", length=129)])
    ),
    "an address has 4 or 16 bytes, not 5": _policy(
        sec.Match(destination_ips=[sec.Address(address=bytes(5), length=8)])
    ),
    "port 65536 is greater than 65535": _policy(sec.Match(not_destination_ports=[1, 65536])),
    "a string match is neither exact, prefix, suffix nor presence": _policy(
        sec.Match(principals=[sec.StringMatch()])
    ),
    "the message is malformed": _policy()[:-1],
    "a string is not valid UTF-8": b"\x0a\x01\xff",
}


@pytest.mark.parametrize("why", BAD)
def test_rejected_by_name_with_the_others_applied(why: str) -> None:
    entries = [
        entry(BAD[why], "n/bad", "", AUTHORIZATION),
        entry(_policy(), "n/p", "", AUTHORIZATION),
    ]
    rows, envelope = read([response(entries, url=AUTHORIZATION)])
    assert rows[0] == ("n/bad", "", BAD[why], Rejected("n/bad", why))
    assert isinstance(rows[1].value, Authorization)
    assert rows[1].value.key == "n/p"
    assert envelope.type_url == AUTHORIZATION


def test_unpacked_ports_and_the_last_of_a_oneof() -> None:
    match = b"\x48\x50\x4a\x02\x51\x52" + field(1, field(1, b"a") + field(3, b"b"))
    raw = field(5, field(1, field(2, match)))
    ((got,),) = authorization.decode(raw).rules[0]
    assert got == Match(destination_ports=(80, 81, 82), namespaces=(StringMatch("suffix", "b"),))
