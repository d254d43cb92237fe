"""Random policies, identities and connections for the tests of authorization."""

from __future__ import annotations

from hypothesis import strategies as st

from kmesh.core import addr
from kmesh.core.model import (
    Action,
    Authorization,
    Identity,
    Match,
    PolicyScope,
    StringMatch,
)
from kmesh.core.policy import Attempt

NAMES = ("a", "ab", "b", "default")
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.1.1", "192.168.0.1", "fd00::1", "fd00::2", "fd01::1")
CIDRS = (
    ("10.0.0.1", 32), ("10.0.0.0", 24), ("10.0.0.0", 16), ("0.0.0.0", 0), ("192.168.0.0", 31),
    ("fd00::1", 128), ("fd00::", 64), ("::", 0), ("fd00::", 12),
)  # fmt: skip
PORTS = (80, 443, 8080)

identities = st.builds(
    Identity,
    st.sampled_from(("cluster.local", "td")),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
)
cidrs = st.sampled_from([addr.network(addr.parse(base), plen) for base, plen in CIDRS])
names = st.sampled_from(NAMES)
principals = st.builds(
    "{}/ns/{}/sa/{}".format, st.sampled_from(("cluster.local", "td")), names, names
)


def patterns(values: st.SearchStrategy[str]) -> st.SearchStrategy[StringMatch]:
    """Every kind of pattern that some of these values fit."""
    return st.one_of(
        st.just(StringMatch("presence")),
        values.map(lambda v: StringMatch("exact", v)),
        values.map(lambda v: StringMatch("prefix", v[: len(v) // 2 + 1])),
        values.map(lambda v: StringMatch("suffix", v[len(v) // 2 :])),
    )


def some(values: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    """Mostly nothing."""
    return st.one_of(st.just(()), st.just(()), st.lists(values, max_size=2).map(tuple))


accounts = st.tuples(names, names)
matches = st.builds(
    Match,
    some(patterns(names)), some(patterns(names)), some(patterns(principals)),
    some(patterns(principals)), some(cidrs), some(cidrs), some(cidrs), some(cidrs),
    some(st.sampled_from(PORTS)), some(st.sampled_from(PORTS)), some(accounts), some(accounts),
)  # fmt: skip
clauses = st.lists(matches, max_size=3).map(tuple)
rules = st.lists(clauses, max_size=3).map(tuple)


@st.composite
def policy_lists(draw: st.DrawFn, most: int = 5) -> tuple[Authorization, ...]:
    """Policies with keys of their own."""
    count = draw(st.integers(0, most))
    return tuple(
        Authorization(
            f"a/p{index}",
            "a",
            draw(st.sampled_from(PolicyScope)),
            draw(st.sampled_from(Action)),
            draw(st.lists(rules, max_size=3).map(tuple)),
            draw(st.booleans()) and draw(st.booleans()),
        )
        for index in range(count)
    )


addresses = st.sampled_from([addr.parse(text) for text in ADDRESSES])
attempts = st.builds(
    Attempt,
    addresses,
    addresses,
    st.sampled_from((*PORTS, 9)),
    st.one_of(st.none(), identities),
)
