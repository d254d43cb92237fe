"""Which addresses may be VIPs: bits beside km_vip that spare programs its look-ups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.bpf import lib
from kmesh.bpf.copies import blocks, memory
from kmesh.core.commands import VIP

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "km_sieve"


def fill(maps: Mapping[str, int]) -> None:
    """Exactly the bits of the records that are there. No bit of one of them is clear meanwhile:
    safe under running programs. Raises BpfError."""
    bits = memory(maps[NAME])
    fresh = memoryview(bytearray(len(bits)))
    for block in blocks(maps[VIP]):
        lib.mark(fresh, [key for key, _ in block])
    bits[:] = fresh
