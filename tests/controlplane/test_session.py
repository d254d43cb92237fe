"""One stream without sockets: order of types, nonces, acknowledgements."""

from __future__ import annotations

import pytest

from kmesh.controlplane.envelope import Incoming
from kmesh.controlplane.session import Nack, ProtocolFault, Session
from kmesh.controlplane.state import Entry
from kmesh.core.events import ADDRESS, AUTHORIZATION
from kmesh.wire.gen.envoy.service.discovery.v3 import DeltaDiscoveryResponse

STATE = {ADDRESS: {"a": Entry("1", b"A")}, AUTHORIZATION: {"p": Entry("", b"P")}}


def _session() -> Session:
    session = Session("peer")
    session.receive(Incoming(AUTHORIZATION, node="n"))
    session.receive(Incoming(ADDRESS))
    return session


def _next(session: Session) -> DeltaDiscoveryResponse:
    data = session.next(STATE)
    assert data is not None
    return DeltaDiscoveryResponse.parse(data)


def test_address_comes_before_authorization_and_each_only_once() -> None:
    session = _session()
    first, second = _next(session), _next(session)
    assert [one.name for one in first.resources] == ["a"]
    assert [one.name for one in second.resources] == ["p"]
    assert (first.type_url, second.type_url) == (ADDRESS, AUTHORIZATION)
    assert first.nonce != second.nonce
    assert session.next(STATE) is None
    assert not session.due


def test_answers_are_counted_by_nonce() -> None:
    session = _session()
    first, second = _next(session), _next(session)
    assert session.statistics().pending == 2
    session.receive(Incoming(ADDRESS, nonce=first.nonce))
    session.receive(Incoming(ADDRESS, nonce=first.nonce))
    session.receive(Incoming(AUTHORIZATION, nonce=second.nonce, error="bad p"))
    counts = session.statistics()
    assert (counts.acks, counts.nacks, counts.stale, counts.pending) == (1, 1, 1, 0)
    assert session.last_nack == Nack(AUTHORIZATION, "bad p", ("p",))
    assert not session.due, "a NACK alone is no reason to send again"


def test_an_empty_error_is_a_nack_too() -> None:
    session = _session()
    session.receive(Incoming(ADDRESS, nonce=_next(session).nonce, error=""))
    assert session.statistics().nacks == 1


def test_a_type_that_the_mesh_does_not_have_gets_an_empty_answer() -> None:
    session = Session("peer")
    session.receive(Incoming("type.googleapis.com/other", node="n"))
    assert _next(session).resources == []


@pytest.mark.parametrize("bad", [Incoming(ADDRESS), Incoming("", node="n")])
def test_faults_end_the_stream(bad: Incoming) -> None:
    with pytest.raises(ProtocolFault):
        Session("peer").receive(bad)
