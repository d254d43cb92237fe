"""Check words: the C formula, written down a second time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kmesh
from kmesh.abi import check
from kmesh.abi.layout import ENROL_KEY_SIZE, ENROL_SIZE, VIP_KEY_SIZE, VIP_SIZE, Enrol, Vip

HEADER = Path(kmesh.__file__).parent / "bpf_c" / "abi.h"


def word(data: bytes) -> int:
    """pick.h's km_mix over the little-endian words of a whole buffer."""
    total = 0x6B6D6573
    for at in range(0, len(data), 4):
        product = (total ^ int.from_bytes(data[at : at + 4], "little")) * 0x9E3779B1 % 2**32
        total = product ^ product // 2**15
    return total


def test_the_constants_are_those_of_the_header() -> None:
    found = dict(re.findall(r"#define (KM_CHECK_\w+) (0x[0-9a-f]+)u", HEADER.read_text()))
    assert {name: int(value, 16) for name, value in found.items()} == {
        "KM_CHECK_SEED": check.SEED,
        "KM_CHECK_MUL": check.MUL,
    }


@given(st.binary(min_size=24, max_size=24), st.binary(min_size=32, max_size=32))
def test_a_record_is_sealed_over_key_and_value(key: bytes, value: bytes) -> None:
    sealed = check.seal(key, value)
    assert sealed[:28] == value[:28]
    assert Vip.unpack(sealed).check == word(key + value[:28])
    assert check.seal(key, sealed) == sealed


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16))
def test_an_enrolment_is_sealed_over_key_and_value(key: bytes, value: bytes) -> None:
    sealed = check.seal_last(key, value)
    assert sealed[:12] == value[:12]
    assert Enrol.unpack(sealed).check == word(key + value[:12])


@given(
    st.binary(min_size=24, max_size=24),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 52 * 8 - 1),
)
def test_every_single_bit_matters(key: bytes, value: bytes, bit: int) -> None:
    """Each step is a bijection of the word and of the sum, so one changed bit always shows."""
    data = bytearray(key + value[:28])
    data[bit // 8] ^= 1 << bit % 8
    changed = check.seal(bytes(data[:24]), bytes(data[24:]) + bytes(4))
    assert changed[28:] != check.seal(key, value)[28:]


def test_sizes_are_those_of_the_layout() -> None:
    assert (VIP_KEY_SIZE, VIP_SIZE, ENROL_KEY_SIZE, ENROL_SIZE) == (24, 32, 8, 16)
    with pytest.raises(Exception, match="unpack requires a buffer of 52 bytes"):
        check.seal(bytes(23), bytes(32))
