"""The check word of map values: how the programs recognise a torn or foreign read (pick.h)."""

from __future__ import annotations

from struct import Struct

SEED = 0x6B6D6573
MUL = 0x9E3779B1
_VIP_WORDS = Struct("<13I")
_ENROL_WORDS = Struct("<5I")
_WORDS = {size: Struct(f"<{size}I") for size in (4, 6, 11, 15)}


def mix(sum_: int, word: int) -> int:
    """One step, on 32-bit words."""
    sum_ = ((sum_ ^ word) * MUL) & 0xFFFFFFFF
    return sum_ ^ (sum_ >> 15)


def seal(key: bytes, value: bytes) -> bytes:
    """A km_vip value (24-byte key, 32-byte value) with its check word filled in."""
    sum_ = SEED
    for word in _VIP_WORDS.unpack(key + value[:28]):
        sum_ = ((sum_ ^ word) * MUL) & 0xFFFFFFFF
        sum_ ^= sum_ >> 15
    return value[:28] + sum_.to_bytes(4, "little")


def seal_enrol(key: bytes, value: bytes) -> bytes:
    """A km_enrol value (8-byte key, 16-byte value) with its check word filled in."""
    sum_ = SEED
    for word in _ENROL_WORDS.unpack(key + value[:12]):
        sum_ = mix(sum_, word)
    return value[:12] + sum_.to_bytes(4, "little")


def seal_last(key: bytes, value: bytes) -> bytes:
    """A value of any table whose last word is its check, with that filled in: guards (16 and 48
    bytes), peers (16 and 12), matches (12 and 8) and own addresses (8 and 40)."""
    body = key + value[:-4]
    sum_ = SEED
    for word in _WORDS[len(body) // 4].unpack(body):
        sum_ = ((sum_ ^ word) * MUL) & 0xFFFFFFFF
        sum_ ^= sum_ >> 15
    return value[:-4] + sum_.to_bytes(4, "little")
