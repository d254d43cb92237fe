"""The check word of map values: how the programs recognise a torn or foreign read (pick.h)."""

from __future__ import annotations

from struct import Struct

from kmesh.abi.layout import SLOT_SIZE, VIP_KEY_SIZE, VIP_SIZE

SEED = 0x6B6D6573
MUL = 0x9E3779B1
_VIP_BODY = VIP_SIZE - 4
_VIP_WORDS = Struct(f"<{(VIP_KEY_SIZE + _VIP_BODY) // 4}I")
_WORDS = {words: Struct(f"<{words}I") for words in range(1, 65)}


def mix(sum_: int, word: int) -> int:
    """One step, on 32-bit words."""
    sum_ = ((sum_ ^ word) * MUL) & 0xFFFFFFFF
    return sum_ ^ (sum_ >> 15)


def seal(key: bytes, value: bytes) -> bytes:
    """A km_vip value with its check word filled in."""
    sum_ = SEED
    for word in _VIP_WORDS.unpack(key + value[:_VIP_BODY]):
        sum_ = ((sum_ ^ word) * MUL) & 0xFFFFFFFF
        sum_ ^= sum_ >> 15
    return value[:_VIP_BODY] + sum_.to_bytes(4, "little")


def stamp(slots: bytes, gen: int) -> bytes:
    """Slots of km_slot with this gen in each."""
    stamped = bytearray(slots)
    count = len(stamped) // SLOT_SIZE
    stamped[SLOT_SIZE - 2 :: SLOT_SIZE] = bytes([gen & 0xFF]) * count
    stamped[SLOT_SIZE - 1 :: SLOT_SIZE] = bytes([gen >> 8]) * count
    return bytes(stamped)


def seal_last(key: bytes, value: bytes) -> bytes:
    """A value of any table whose last word is its check, with that filled in; key and body are
    whole words, 64 at most."""
    body = key + value[:-4]
    sum_ = SEED
    for word in _WORDS[len(body) // 4].unpack(body):
        sum_ = ((sum_ ^ word) * MUL) & 0xFFFFFFFF
        sum_ ^= sum_ >> 15
    return value[:-4] + sum_.to_bytes(4, "little")
