"""A session against a model control plane under Hypothesis: after every answered stream the state
that the writer was offered is the server's."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmesh.core.delta import Session
from kmesh.core.events import ADDRESS, AUTHORIZATION, Applied, Commit, Envelope, Offer, Request
from kmesh.core.model import Rejected, Resource
from tests.core.sessions import NODE, bad, policy, workload

NAMES = [f"w{index}" for index in range(12)]
names = st.sampled_from(NAMES)
kinds = st.sampled_from([ADDRESS, AUTHORIZATION])


class DeltaMachine(RuleBasedStateMachine):
    """The server answers as istiod does: equal versions left out, removals from claimed names."""

    def __init__(self) -> None:
        super().__init__()
        # 3/4 of 120 bytes: four or five claims fit, the rest is cut.
        self.session = Session(NODE, max_request_bytes=120)
        self.server: dict[str, dict[str, Resource]] = {ADDRESS: {}, AUTHORIZATION: {}}
        self.dirty: dict[str, set[str]] = {ADDRESS: set(), AUTHORIZATION: set()}
        self.offered: dict[str, dict[str, Resource]] = {ADDRESS: {}, AUTHORIZATION: {}}
        self.last_good: dict[str, dict[str, Resource]] = {ADDRESS: {}, AUTHORIZATION: {}}
        self.claims: dict[str, dict[str, str]] = {}
        self.answered: set[str] = set()
        self.revision = self.version = self.nonce = 0
        self.owed: list[str] = []
        self.open = False

    @rule(name=names, broken=st.booleans())
    def put(self, name: str, broken: bool) -> None:
        self.version += 1
        item = bad(name) if broken else workload(name, f"{self.version:04}")
        self.server[ADDRESS][name] = item._replace(version=f"{self.version:04}")
        self.dirty[ADDRESS].add(name)

    @rule(name=names)
    def put_policy(self, name: str) -> None:
        self.server[AUTHORIZATION][name] = policy(name)
        self.dirty[AUTHORIZATION].add(name)

    @rule(kind=kinds, name=names)
    def remove(self, kind: str, name: str) -> None:
        self.server[kind].pop(name, None)
        self.dirty[kind].add(name)

    @rule()
    def connect(self) -> None:
        requests = self.session.connected()
        assert [request.type_url for request in requests] == [ADDRESS, AUTHORIZATION]
        assert all(request.node == NODE and not request.subscribe for request in requests)
        self.claims = {request.type_url: dict(request.initial_versions) for request in requests}
        for kind, claims in self.claims.items():
            assert sum(len(name) + len(version) for name, version in claims.items()) <= 90
            assert claims.items() <= {
                name: item.version for name, item in self.offered[kind].items()
            }.items() | {(name, "") for name in self.session.failing}
        self.answered, self.owed, self.open = set(), [], True

    @precondition(lambda self: self.open)
    @rule(kind=kinds, cut=st.booleans(), size=st.integers(1, 5))
    def respond(self, kind: str, cut: bool, size: int) -> None:
        resources, removed = self.delta(kind)
        parts = [resources[at : at + size] for at in range(0, len(resources), size)]
        if cut:
            parts = parts[: len(parts) // 2]
        for part in parts:
            for offer in self.session.part(part):
                self.take(offer)
        if cut:
            self.disconnect()
            return
        self.nonce += 1
        envelope = Envelope(kind, str(self.nonce), tuple(removed))
        for command in self.session.finish(envelope):
            assert not isinstance(command, Request)
            self.take(command)
        assert self.last_commit == Commit(kind, self.revision, kind not in self.answered)
        self.owed.append(envelope.nonce)
        self.answered.add(kind)
        self.dirty[kind].clear()

    def delta(self, kind: str) -> tuple[list[Resource], set[str]]:
        server = self.server[kind]
        if kind in self.answered:
            dirty = self.dirty[kind]
            return [server[name] for name in sorted(dirty & server.keys())], dirty - server.keys()
        claims = self.claims[kind]
        fresh = [
            item
            for name, item in server.items()
            if kind == AUTHORIZATION or claims.get(name) != item.version
        ]
        return fresh, claims.keys() - server.keys()

    def take(self, command: Offer | Commit) -> None:
        if isinstance(command, Commit):
            self.revision, self.last_commit = command.revision, command
            return
        state = self.offered[command.type_url]
        for item in command.upserts:
            state[item.name] = item
        for name in command.removed:
            state.pop(name, None)

    @rule(failed=st.sets(names, max_size=3))
    def apply(self, failed: set[str]) -> None:
        answers = self.session.applied(Applied(self.revision, dict.fromkeys(failed, "full")))
        assert [answer.nonce for answer in answers] == self.owed
        assert all(answer.node is None for answer in answers)
        self.owed = []

    @rule()
    def disconnect(self) -> None:
        self.session.disconnected()
        self.owed, self.open = [], False

    @invariant()
    def held_is_what_was_offered(self) -> None:
        for kind, state in self.offered.items():
            assert self.session.held(kind) == state

    @invariant()
    def answered_streams_agree_with_the_server(self) -> None:
        for kind in self.answered if self.open else ():
            for name in NAMES:
                if name in self.dirty[kind]:
                    continue
                wanted = self.server[kind].get(name)
                got = self.offered[kind].get(name)
                if wanted is not None and isinstance(wanted.value, Rejected):
                    assert got is None or got.version < wanted.version
                else:
                    assert got == wanted, (kind, name)


DeltaMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDelta = DeltaMachine.TestCase
