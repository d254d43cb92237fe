"""What must never leave a node does not, and what helps stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.core.redact import GONE, document, text, words

KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB\nabc=\n-----END EC PRIVATE KEY-----"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLXRleHQ"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (f"a {KEY} b", f"a {GONE} b"),
        (KEY[:40], GONE),
        (f"token is {TOKEN}!", f"token is {GONE}!"),
        ("Authorization: Bearer abcdefghijkl", f"Authorization: {GONE} {GONE}"),
        ("sent Bearer abcdefghijkl.mno", f"sent Bearer {GONE}"),
        ("https://user:hunter2@host/path", f"https://{GONE}@host/path"),
        ("password=hunter2, next=1", f"password={GONE}, next=1"),
        ('{"api_key": "abc", "port": 1}', f'{{"api_key": {GONE}, "port": 1}}'),
        ("AUTH_TOKEN=abc", f"AUTH_TOKEN={GONE}"),
    ],
)
def test_secrets_in_text(raw: str, left: str) -> None:
    found = text(raw)
    assert found.value == left
    assert found.secrets >= 1


@pytest.mark.parametrize(
    "raw",
    [
        CERTIFICATE,
        "spiffe://cluster.local/ns/shop/sa/web",
        "denied tcp 10.0.0.1:4711 -> 10.0.0.2:80 by shop/secret-policy",
        '{"cookie": 14780, "tokens_per_second": 3}',
        "http://127.0.0.1:15200/state",
        "principals: basic auth is off",
    ],
)
def test_what_helps_stays(raw: str) -> None:
    assert text(raw) == (raw, 0)


def test_documents_keep_their_shape() -> None:
    found = document({
        "name": "shop/secret", "port": 80, "authToken": "abc", "nested": [{"password": "x"}, KEY],
        "tokens": ["a", "b"], "secret": {"name": "n", "token": ""}, "cookie": 7, "none": None,
    })  # fmt: skip
    assert found.secrets == 5
    assert found.value == {
        "name": "shop/secret", "port": 80, "authToken": GONE, "nested": [{"password": GONE}, GONE],
        "tokens": [GONE, GONE], "secret": {"name": "n", "token": ""}, "cookie": 7, "none": None,
    }  # fmt: skip


def test_command_lines() -> None:
    command = ["kmesh", "daemon", "--auth-token", "abc", "--password=x", "--node-name", "n1"]
    assert words(command).value == [
        "kmesh", "daemon", "--auth-token", GONE, f"--password={GONE}", "--node-name", "n1",
    ]  # fmt: skip
    assert words(command).secrets == 2


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.text())
trees = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(trees)
def test_nothing_is_found_twice(tree: object) -> None:
    once = document(tree)
    again = document(once.value)
    assert again.value == once.value


@given(st.text(), st.text())
def test_a_key_is_gone_wherever_it_stands(before: str, after: str) -> None:
    found = document({"log": before + KEY + after, "list": [[TOKEN]]})
    raw = json.dumps(found.value)
    assert "MHcCAQ" not in raw
    assert "c2lnbmF0dXJl" not in raw
