"""Addresses: one form of 16 bytes, and the way back to text."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.core import addr

ips = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(ips)
def test_text_and_bytes_lead_back_to_the_address(ip: ipaddress.IPv4Address) -> None:
    raw = addr.parse(str(ip))
    assert len(raw) == 16
    assert raw == addr.from_wire(ip.packed)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    assert addr.text(raw) == str(mapped or ip)
    assert addr.is_ipv4(raw) == (ip.version == 4 or mapped is not None)


def test_an_ipv4_address_is_mapped() -> None:
    assert addr.parse("10.0.0.1") == bytes(10) + b"\xff\xff\x0a\x00\x00\x01"
    assert addr.parse("10.0.0.1") == addr.parse("::ffff:10.0.0.1")


def test_the_all_zero_prefix_is_not_an_ipv4_address() -> None:
    assert not addr.is_ipv4(addr.parse("::"))
    assert not addr.is_ipv4(addr.parse("::10.0.0.1"))


@pytest.mark.parametrize("length", [0, 3, 5, 15, 17])
def test_other_lengths_are_refused_by_number(length: int) -> None:
    with pytest.raises(ValueError, match=f"4 or 16 bytes, not {length}"):
        addr.from_wire(bytes(length))


def test_a_bad_text_is_named() -> None:
    with pytest.raises(ValueError, match="10\\.0\\.0\\.256"):
        addr.parse("10.0.0.256")


def test_ports_are_written_as_usual() -> None:
    assert addr.host_port(addr.parse("10.0.0.1"), 80) == "10.0.0.1:80"
    assert addr.host_port(addr.parse("fd00::1"), 80) == "[fd00::1]:80"


@given(ips, st.data())
def test_networks_agree_with_the_standard_library(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, data: st.DataObject
) -> None:
    length = data.draw(st.integers(0, ip.max_prefixlen))
    raw = addr.parse(str(ip))
    if ip.version == 6 and addr.is_ipv4(raw):
        return  # an IPv4 address in disguise has IPv4 lengths
    base, plen = addr.network(raw, length)
    expected = ipaddress.ip_network((ip, length), strict=False)
    assert base == addr.parse(str(expected.network_address)) or not length
    assert plen == length + (96 if ip.version == 4 else 0)
    mask = ((1 << plen) - 1) << (128 - plen)
    assert int.from_bytes(base, "big") == int.from_bytes(raw, "big") & mask


def test_every_ipv4_address_lies_in_the_ipv4_default_network() -> None:
    assert addr.network(addr.parse("10.1.2.3"), 0) == (addr.parse("0.0.0.0"), 96)


@pytest.mark.parametrize(("ip", "length"), [("10.0.0.1", 33), ("fd00::1", 129), ("10.0.0.1", -1)])
def test_impossible_lengths_name_the_network(ip: str, length: int) -> None:
    with pytest.raises(ValueError, match=f"{ip}/{length}"):
        addr.network(addr.parse(ip), length)
