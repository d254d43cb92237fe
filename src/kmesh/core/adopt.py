"""What the kernel holds, turned back into targets and segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.check import seal, seal_enrol
from kmesh.abi.layout import SLOT_SIZE, Enrol, Reason, Vip, VipAction
from kmesh.core.plan import Segment
from kmesh.core.render import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

REASONS = {reason.value: reason for reason in Reason}
ACTIONS = {action.value: action for action in VipAction}


DAMAGED = Target(VipAction.NONE, Reason.INCONSISTENT, 0)


def decode(key: bytes, value: bytes, slots: bytes) -> tuple[Target, Segment | None]:
    """A kernel record as target and segment; no segment when its slots do not carry its gen.

    A record that the programs do not believe is DAMAGED: it equals nothing that can be wanted.
    """
    if seal(key, value) != value:
        return DAMAGED, None
    row = Vip.unpack(value)
    segment, content = None, b""
    raw = bytearray(slots[row.base * SLOT_SIZE : (row.base + row.slots) * SLOT_SIZE])
    if row.action == VipAction.BALANCE and raw and len(raw) == row.slots * SLOT_SIZE:
        low, high = bytes([row.gen & 0xFF]) * row.slots, bytes([row.gen >> 8]) * row.slots
        if raw[22::SLOT_SIZE] == low and raw[23::SLOT_SIZE] == high:
            raw[22::SLOT_SIZE] = raw[23::SLOT_SIZE] = bytes(row.slots)
            content = bytes(raw)
            segment = Segment(row.base, row.gen, row.service, content)
    reason = REASONS.get(row.reason, Reason.INCONSISTENT)
    action = ACTIONS.get(row.action, VipAction.NONE)
    return Target(action, reason, row.service, row.port, content, row.flags), segment


def workloads(target: Target) -> Iterator[tuple[bytes, int]]:
    """(address, workload id) of each slot of a target."""
    for at in range(0, len(target.slots), SLOT_SIZE):
        yield target.slots[at : at + 16], int.from_bytes(target.slots[at + 16 : at + 20], "little")


def decode_enrol(key: bytes, value: bytes) -> Enrol:
    """An enrolment; all zero, which no sealed row is, when the programs do not believe it."""
    return Enrol.unpack(value if seal_enrol(key, value) == value else bytes(len(value)))
