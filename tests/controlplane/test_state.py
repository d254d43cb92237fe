"""Subscriptions: after each answer the client knows exactly the state, and was told no more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmesh.controlplane.state import Delta, Entry, Snapshot, Subscription, difference

NAMES = st.sampled_from([f"r{number}" for number in range(6)])
VERSIONS = st.sampled_from(["", "v1", "v2", "v3"])
ENTRIES = VERSIONS.map(lambda version: Entry(version, f"raw {version}".encode()))
STATES = st.dictionaries(NAMES, ENTRIES, max_size=6)


@given(STATES, STATES)
def test_a_difference_turns_old_into_new_and_is_minimal(old: Snapshot, new: Snapshot) -> None:
    delta = difference(old, new)
    told = {name: entry for name, entry in old.items() if name not in delta.removed}
    assert told | {name: new[name] for name in delta.changed} == new
    assert all(old.get(name) != new[name] for name in delta.changed)
    assert all(name in old for name in delta.removed)


@given(STATES, st.dictionaries(NAMES, VERSIONS, max_size=6))
def test_the_first_answer_honours_claims_like_istiod(
    state: Snapshot, claims: dict[str, str]
) -> None:
    subscription = Subscription()
    subscription.begin((), claims)
    delta = subscription.take(state)
    for name, entry in state.items():
        held = bool(entry.version) and claims.get(name) == entry.version
        assert (name in delta.changed) is not held
    assert sorted(delta.removed) == sorted(name for name in claims if name not in state)


def test_an_empty_first_answer_is_due_once() -> None:
    subscription = Subscription()
    assert not subscription.due
    subscription.begin((), {})
    assert subscription.due
    assert subscription.take({}) == Delta()
    assert not subscription.due


def test_without_a_wildcard_only_named_resources_are_sent() -> None:
    state = {"a": Entry("1", b"a"), "b": Entry("1", b"b")}
    subscription = Subscription()
    subscription.begin(("a", "gone"), {})
    assert subscription.take(state) == Delta(("a",), ("gone",))
    subscription.touch(("b",))
    assert not subscription.due
    subscription.amend(("b", "nothing"), ("a",))
    assert subscription.take(state) == Delta(("b",), ("nothing",))
    subscription.touch(("a", "b"))
    assert subscription.take(state) == Delta(("b",))


def test_the_wildcard_can_be_ended() -> None:
    subscription = Subscription()
    subscription.begin(("*",), {})
    subscription.take({})
    subscription.amend((), ("*",))
    subscription.touch(("a",))
    assert not subscription.due


class Client(RuleBasedStateMachine):
    """A wildcard client that reconnects and reads when it likes, while the state changes."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Snapshot = {}
        self.known: Snapshot = {}
        self.subscription = Subscription()
        self.fresh: set[str] = set()
        self.connect()

    def connect(self) -> None:
        """A stream with claims for everything it knows."""
        self.subscription = Subscription()
        self.subscription.begin((), {name: entry.version for name, entry in self.known.items()})
        self.fresh = set(self.state) | set(self.known)

    @rule(name=NAMES, entry=ENTRIES)
    def put(self, name: str, entry: Entry) -> None:
        self.state[name] = entry
        self.subscription.touch((name,))
        self.fresh.add(name)

    @precondition(lambda self: self.state)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.state)))
        del self.state[name]
        self.subscription.touch((name,))
        self.fresh.add(name)

    @rule()
    def reconnect(self) -> None:
        self.connect()

    @precondition(lambda self: self.subscription.due)
    @rule()
    def read(self) -> None:
        delta = self.subscription.take(self.state)
        assert {*delta.changed, *delta.removed} <= self.fresh
        assert not set(delta.changed) & set(delta.removed)
        for name in delta.removed:
            self.known.pop(name, None)
        for name in delta.changed:
            self.known[name] = self.state[name]
        self.fresh.clear()

    @invariant()
    def nothing_due_means_nothing_missing(self) -> None:
        if not self.subscription.due:
            assert self.known == self.state


TestClient = Client.TestCase
