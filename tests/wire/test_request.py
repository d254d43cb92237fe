"""Requests read back by Google's parser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.core.events import ADDRESS, Node, Request
from kmesh.wire.discovery import encode_request, request_pieces
from tests.wire import google

if TYPE_CHECKING:
    from kmesh.core.events import Json

names = st.text(max_size=8)
exact = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False))
json = st.recursive(
    st.one_of(st.none(), st.booleans(), exact, names),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
requests = st.builds(
    Request,
    type_url=names,
    node=st.one_of(
        st.none(), st.builds(Node, names, names, st.dictionaries(names, json, max_size=3))
    ),
    subscribe=st.lists(names, max_size=3).map(tuple),
    unsubscribe=st.lists(names, max_size=3).map(tuple),
    initial_versions=st.dictionaries(
        st.text(max_size=200), st.one_of(names, st.text(max_size=200)), max_size=6
    ),
    nonce=names,
    error=names,
)


def _plain(value: Any) -> Json:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: _plain(one) for key, one in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(one) for one in value.list_value.values]
    assert kind is not None
    return None if kind == "null_value" else getattr(value, kind)


def decoded(data: bytes) -> Request:
    """A request as Google's parser understands it."""
    got = google.message("envoy.service.discovery.v3.DeltaDiscoveryRequest").FromString(data)
    node = None
    if got.HasField("node"):
        metadata = {key: _plain(value) for key, value in got.node.metadata.fields.items()}
        node = Node(got.node.id, got.node.cluster, metadata)
    return Request(
        got.type_url,
        node,
        tuple(got.resource_names_subscribe),
        tuple(got.resource_names_unsubscribe),
        dict(got.initial_resource_versions),
        got.response_nonce,
        got.error_detail.message,
    )


@settings(max_examples=200, deadline=None)
@given(requests)
def test_round_trip(request: Request) -> None:
    assert decoded(encode_request(request)) == request


def test_ack_has_no_error_and_a_nack_has() -> None:
    message = google.message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
    assert not message.FromString(encode_request(Request(ADDRESS, nonce="1"))).HasField(
        "error_detail"
    )
    nack = message.FromString(encode_request(Request(ADDRESS, nonce="1", error="r: bad")))
    assert nack.error_detail.message == "r: bad"


def test_many_versions_come_in_pieces() -> None:
    versions = {f"Kubernetes//Pod/ns/pod-{n}": f"{n:016x}" for n in range(10_000)}
    request = Request(ADDRESS, initial_versions=versions)
    pieces = list(request_pieces(request))
    assert len(pieces) == 6
    assert b"".join(pieces) == encode_request(request)
    assert decoded(encode_request(request)).initial_versions == versions
