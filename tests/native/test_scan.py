"""Hostile bytes: nothing is read beyond the buffer, and what is well-formed is Google's verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.core.model import Rejected
from kmesh.wire.discovery import Decoder, ResponseReader, WireError
from tests.wire import google
from tests.wire.messages import entry, field, mesh_addresses, response
from tests.wire.reading import read, value

if TYPE_CHECKING:
    from kmesh.wire.gen.istio import workload as wds

ILL = {"the message is malformed", "a string is not valid UTF-8"}
RESPONSE = "envoy.service.discovery.v3.DeltaDiscoveryResponse"

# Building blocks of wire format: likelier to be nearly right than random bytes.
varints = st.one_of(
    st.sampled_from([b"\x00", b"\x01", b"\x7f", b"\x80\x00", b"\xff" * 9 + b"\x01"]),
    st.sampled_from([b"\xff" * 9 + b"\x7f", b"\xff" * 10, b"\x80" * 9 + b"\x02", b"\x80"]),
    st.integers(0, 127).map(lambda number: bytes([number])),
)
chunks = st.recursive(
    st.one_of(varints, st.binary(max_size=12), st.text(max_size=6).map(str.encode)),
    lambda inner: st.one_of(
        st.builds(field, st.integers(1, 15), inner),
        st.builds(lambda n, v: bytes([n << 3]) + v, st.integers(1, 15), varints),
        st.builds(
            lambda n, v: bytes([n << 3 | 3]) + v + bytes([n << 3 | 4]), st.integers(1, 15), inner
        ),
        st.builds(lambda n, b: bytes([n << 3 | 1]) + b, st.integers(1, 15), st.binary(max_size=9)),
        st.builds(lambda n, b: bytes([n << 3 | 5]) + b, st.integers(1, 15), st.binary(max_size=5)),
        st.builds(bytes.__add__, inner, inner),
    ),
    max_leaves=12,
)
flips = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), max_size=4)


def flipped(data: bytes, bits: list[tuple[int, int]]) -> bytes:
    """``data`` with some bits changed."""
    out = bytearray(data)
    for at, bit in bits:
        if out:
            out[at % len(out)] ^= 1 << bit
    return bytes(out)


def well_formed(raw: bytes) -> bool:
    """Our verdict over an encoded Address."""
    got = value(raw)
    return not (isinstance(got, Rejected) and got.reason in ILL)


def agree(raw: bytes) -> None:
    assert well_formed(raw) == google.accepts("istio.workload.Address", raw)


@settings(max_examples=600, deadline=None)
@given(mesh_addresses, flips, st.integers(0, 5000), st.booleans())
def test_damaged_messages_are_judged_as_google_does(
    message: wds.Address, bits: list[tuple[int, int]], cut: int, cutting: bool
) -> None:
    raw = flipped(bytes(message), bits)
    agree(raw[: cut % (len(raw) + 1)] if cutting else raw)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from([1, 2]), chunks)
def test_grammatical_garbage_is_judged_as_google_does(member: int, chunk: bytes) -> None:
    agree(chunk)
    agree(field(member, chunk))


@pytest.mark.parametrize(
    "inner",
    [
        b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # ten bytes
        b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",  # more than 64 bits
        b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00",  # eleven bytes
        b"\x28\x81\x80\x80\x80\x80\x00",  # longer than needed
        b"\x82\x80\x80\x80\x80\x00\x00",  # tag in six bytes
        b"\x92\x80\x80\x80\x00\x00",  # tag in five
        b"\xfa\xff\xff\xff\x0f\x00",  # highest field number
        b"\xfa\xff\xff\xff\x1f\x00",  # too high
        b"\x12\x80\x80\x80\x80\x00",  # length in five bytes
        b"\x12\x80\x80\x80\x80\x80\x00",  # in six
        b"\x2b\x2c",  # a known number as a group
        b"\x2b\x34",  # ended by another number
        b"\x2b",  # not ended
        b"\x2c",
        b"\x7b" * 99 + b"\x7c" * 99,  # deep groups
        b"\x7b" * 97 + b"\x7c" * 97,
        b"\x7b" * 98 + b"\x7c" * 98,
        b"\x7b" * 200 + b"\x7c" * 200,
        b"\x2e\x00",
        b"\x12\x03\xed\xa0\x80",  # a surrogate
        b"\x12\x02\xc0\x80",  # a long zero
        b"\x12\x04\xf4\x90\x80\x80",  # beyond Unicode
        b"\x12\x03\xef\xbf\xbf",
        b"\x12\x0c12345678\xff000",
        b"\x1a\x02\xc0\x80",  # bytes may be anything
        b"\x7a\x02\xc0\x80",  # so may unknown fields
        b"\x2d\x00\x00\x00\x00",  # known field of another wire type
        b"\x12\x00\x10\x05",
    ],
)
def test_corner_of_the_format(inner: bytes) -> None:
    for raw in (inner, field(1, inner), field(2, inner), field(1, field(8, inner))):
        agree(raw)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), chunks))
def test_garbage_responses_do_no_harm_in_any_pieces(data: bytes) -> None:
    def outcome(pieces: list[bytes]) -> object:
        try:
            return read(pieces)
        except WireError:
            return "unreadable"

    whole = outcome([data])
    assert outcome([data[i : i + 1] for i in range(len(data))]) == whole
    if whole != "unreadable" and b"\x12" not in data:  # resources may be bad one by one
        assert google.accepts(RESPONSE, data)


@settings(max_examples=300, deadline=None)
@given(st.lists(mesh_addresses, min_size=1, max_size=3), flips)
def test_damaged_responses_are_refused_whole_or_in_part(
    messages: list[wds.Address], bits: list[tuple[int, int]]
) -> None:
    data = flipped(response([entry(bytes(one)) for one in messages]), bits)
    try:
        rows, _ = read([data])
    except WireError:
        return
    ill = any(isinstance(row.value, Rejected) and row.value.reason in ILL for row in rows)
    assert ill or google.accepts(RESPONSE, data)


def test_claimed_length_is_not_allocated() -> None:
    reader = ResponseReader(Decoder())
    claim = b"\x12\x80\x84\xaf\x5f"  # a resource of 200,000,000 bytes
    with pytest.raises(WireError, match="200000005 bytes"):
        reader.feed(claim)
    # Inside a resource the claim is simply wrong.
    assert value(b"\x0a\x80\x84\xaf\x5f") == Rejected("r", "the message is malformed")
