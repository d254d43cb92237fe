"""Rows made ready in C are those that abi/check.py makes."""

from __future__ import annotations

from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kmesh._native import ffi, lib

from kmesh.abi.check import SEED, mix, seal, seal_last, stamp
from kmesh.abi.layout import SLOT_SIZE, VIP_KEY_SIZE, VIP_SIZE
from kmesh.bpf.lib import mark, put_slots


def sealed(keys: list[bytes], values: list[bytes]) -> list[bytes]:
    room, width = bytearray(b"".join(values)), len(values[0])
    lib.km_seal(b"".join(keys), len(keys[0]), ffi.from_buffer(room), width, len(keys))
    return [bytes(room[i : i + width]) for i in range(0, len(room), width)]


def of(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@given(st.lists(st.tuples(of(VIP_KEY_SIZE), of(VIP_SIZE)), min_size=1, max_size=9))
def test_records_are_sealed(rows: list[tuple[bytes, bytes]]) -> None:
    found = sealed([key for key, _ in rows], [value for _, value in rows])
    assert found == [seal(key, value) for key, value in rows]


@given(of(8), of(12))
def test_rows_of_any_size_are_sealed(key: bytes, value: bytes) -> None:
    assert sealed([key], [value]) == [seal_last(key, value)]


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 0xFFFF), st.data())
def test_slots_are_stamped_where_they_belong(
    base: int, count: int, gen: int, data: st.DataObject
) -> None:
    slots = data.draw(of(count * SLOT_SIZE))
    before = data.draw(of(8 * SLOT_SIZE))
    array = bytearray(before)
    put_slots(memoryview(array), base, slots, gen)
    start, end = base * SLOT_SIZE, (base + count) * SLOT_SIZE
    assert bytes(array) == before[:start] + stamp(slots, gen) + before[end:]


def test_nothing_is_written_beyond_the_array() -> None:
    array = bytearray(2 * SLOT_SIZE)
    with pytest.raises(IndexError, match="slots 1 and following of 2"):
        put_slots(memoryview(array), 1, bytes(2 * SLOT_SIZE), 7)
    assert not any(array)


@given(st.lists(of(VIP_KEY_SIZE), max_size=9), st.integers(1, 4))
def test_addresses_are_marked_by_their_hash_and_prefixes_are_not(
    keys: list[bytes], words: int
) -> None:
    wanted = [key[:22] + bytes([(128, 127)[i % 2], 0]) for i, key in enumerate(keys)]
    bits = bytearray(8 * words)
    mark(memoryview(bits), wanted)
    expected = {bit_of(key[:16], words) for key in wanted[::2]}
    assert {i for i in range(64 * words) if bits[i // 8] >> i % 8 & 1} == expected


def bit_of(address: bytes, words: int) -> int:
    found = SEED
    for word in Struct("<4I").unpack(address):
        found = mix(found, word)
    return found // 64 % words * 64 + found % 64
