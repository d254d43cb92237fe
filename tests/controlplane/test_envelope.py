"""The hand-written envelope agrees with the generated classes; garbage is a ValueError."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmesh.controlplane import envelope
from kmesh.controlplane.envelope import Incoming, Item
from kmesh.wire.gen.envoy.config.core.v3 import Node
from kmesh.wire.gen.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
)
from kmesh.wire.gen.google.rpc import Status

TEXT = st.text(max_size=300)
ITEMS = st.lists(st.builds(Item, TEXT, TEXT, st.binary(max_size=300)), max_size=5)


@given(TEXT, TEXT, ITEMS, st.lists(TEXT, max_size=4), TEXT)
def test_a_response_is_what_the_generated_class_reads(
    url: str, nonce: str, items: list[Item], removed: list[str], system: str
) -> None:
    parsed = DeltaDiscoveryResponse.parse(envelope.response(url, nonce, items, removed, system))
    assert (parsed.type_url, parsed.nonce, parsed.system_version_info) == (url, nonce, system)
    assert parsed.removed_resources == removed
    got = []
    for resource in parsed.resources:
        value = resource.resource
        assert value is None or value.type_url == url
        got.append(Item(resource.name, resource.version, b"" if value is None else value.value))
    assert got == items


@given(
    st.builds(
        Incoming,
        type_url=TEXT,
        node=st.none() | TEXT,
        subscribe=st.lists(TEXT, max_size=3).map(tuple),
        unsubscribe=st.lists(TEXT, max_size=3).map(tuple),
        versions=st.dictionaries(TEXT, TEXT, max_size=4),
        nonce=TEXT,
        error=st.none() | TEXT,
    )
)
def test_a_request_of_the_generated_class_is_read(wanted: Incoming) -> None:
    request = DeltaDiscoveryRequest(
        type_url=wanted.type_url,
        resource_names_subscribe=list(wanted.subscribe),
        resource_names_unsubscribe=list(wanted.unsubscribe),
        initial_resource_versions=dict(wanted.versions),
        response_nonce=wanted.nonce,
    )
    if wanted.node is not None:
        request.node = Node(id=wanted.node, cluster="c")
    if wanted.error is not None:
        request.error_detail = Status(code=3, message=wanted.error)
    assert envelope.request(bytes(request)) == wanted


@given(st.binary(max_size=200))
def test_garbage_is_a_value_error_or_a_request(data: bytes) -> None:
    try:
        assert isinstance(envelope.request(data), Incoming)
    except ValueError as error:
        assert str(error)


def test_a_cut_request_is_refused() -> None:
    data = bytes(DeltaDiscoveryRequest(type_url="abc", response_nonce="1"))
    for end in range(1, len(data)):
        try:
            cut = envelope.request(data[:end])
        except ValueError:
            continue
        assert cut == Incoming(type_url="abc")  # exactly between two fields
