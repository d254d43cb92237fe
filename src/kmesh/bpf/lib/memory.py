"""Rows and mapped tables as bytes in memory: no system call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh._native import ffi, lib
from kmesh.abi.layout import SLOT_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence


def seal(keys: Sequence[bytes], values: Sequence[bytes]) -> bytearray:
    """Values of one table in a row, their last words filled in (abi.check)."""
    sealed = bytearray().join(values)
    if keys:
        room = ffi.from_buffer(sealed)
        lib.km_seal(b"".join(keys), len(keys[0]), room, len(values[0]), len(keys))
    return sealed


def mark(sieve: memoryview, keys: Sequence[bytes]) -> None:
    """Set the bits of km_sieve for these keys of km_vip."""
    if keys:
        room, size = ffi.from_buffer("uint64_t[]", sieve), len(keys[0])
        lib.km_mark(room, len(sieve) // 8, b"".join(keys), size, len(keys))


def put_slots(array: memoryview, base: int, slots: bytes, gen: int) -> None:
    """Slots of km_slot from entry ``base`` on, with this gen in each. Raises IndexError beyond the
    end of the array."""
    size = len(slots)
    if base * SLOT_SIZE + size > len(array):
        raise IndexError(f"slots {base} and following of {len(array) // SLOT_SIZE}")
    lib.km_put_slots(ffi.from_buffer(array), base, slots, size // SLOT_SIZE, gen)
