"""One address form everywhere: 16 bytes in network order, IPv4 as ``::ffff:a.b.c.d`` (RFC 4291)."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

KEPT = 4096  # addresses whose text is remembered: making it costs ten times as much
MAPPED = bytes(10) + b"\xff\xff"


def from_wire(raw: bytes) -> bytes:
    """16-byte address from 4 or 16 raw bytes; raises ValueError for any other length."""
    if len(raw) == 4:
        return MAPPED + raw
    if len(raw) == 16:
        return bytes(raw)
    raise ValueError(f"an address has 4 or 16 bytes, not {len(raw)}")


def parse(text: str) -> bytes:
    """16-byte address from text; raises ValueError naming the text."""
    return from_wire(ipaddress.ip_address(text).packed)


def is_ipv4(addr: bytes) -> bool:
    """Whether a 16-byte address is an IPv4 one."""
    return addr.startswith(MAPPED)


@lru_cache(KEPT)
def text(addr: bytes) -> str:
    """The usual spelling: dotted for IPv4, RFC 5952 for IPv6."""
    if is_ipv4(addr):
        return str(ipaddress.IPv4Address(addr[12:]))
    return str(ipaddress.IPv6Address(addr))


def host(addr: bytes) -> str:
    """``10.0.0.1`` or ``[fd00::1]``."""
    spelt = text(addr)
    return f"[{spelt}]" if ":" in spelt else spelt


def host_port(addr: bytes, port: int) -> str:
    """``10.0.0.1:80`` or ``[fd00::1]:80``."""
    return f"{host(addr)}:{port}"


def network(addr: bytes, length: int) -> tuple[bytes, int]:
    """(masked 16-byte base, prefix length out of 128) of an address and its family's length.

    Raises ValueError when the length is longer than the family's address.
    """
    plen = length + 96 if is_ipv4(addr) else length
    if length < 0 or plen > 128:
        raise ValueError(f"{text(addr)}/{length}: prefix is longer than the address")
    mask = ((1 << plen) - 1) << (128 - plen)
    return (int.from_bytes(addr, "big") & mask).to_bytes(16, "big"), plen
