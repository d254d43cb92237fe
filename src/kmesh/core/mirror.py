"""What the records of km_vip say, as the bytes that lie there."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi import check
from kmesh.abi.layout import SLOT_SIZE, Reason, Vip, VipAction
from kmesh.core.render import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

REASONS = {reason.value: reason for reason in Reason}
ACTIONS = {action.value: action for action in VipAction}


class Segment(NamedTuple):
    """Slots of one service in the array; shared by its records that have equal endpoints."""

    base: int
    gen: int
    service: int
    slots: bytes


class Realised(NamedTuple):
    """A record as the kernel holds it, and the segment it points to."""

    target: Target
    segment: Segment | None


class Records(MutableMapping[bytes, Realised]):
    """Packed km_vip_key to record; made when somebody asks for it.

    ``raw`` has the values of the table, their check words 0, ``segments`` those they lead to by
    their bases: bytes are nothing to the garbage collector, which would look at the records of a
    busy mesh again and again.
    """

    def __init__(self) -> None:
        self.raw: dict[bytes, bytes] = {}
        self.segments: dict[int, Segment] = {}

    def made(self, raw: bytes) -> Realised:
        """The record of a value."""
        row = Vip.unpack(raw)
        segment = self.segments.get(row.base) if row.slots else None
        target = Target(
            ACTIONS.get(row.action, VipAction.NONE),
            REASONS.get(row.reason, Reason.INCONSISTENT),
            row.service, row.port, segment.slots if segment else b"", row.flags,
        )  # fmt: skip
        return Realised(target, segment)

    def __getitem__(self, key: bytes) -> Realised:
        return self.made(self.raw[key])

    def __setitem__(self, key: bytes, realised: Realised) -> None:
        self.raw[key] = record(*realised).pack()

    def __delitem__(self, key: bytes) -> None:
        del self.raw[key]

    def __contains__(self, key: object) -> bool:
        return key in self.raw

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


def record(target: Target, segment: Segment | None) -> Vip:
    """The km_vip value of a target, its check word still 0."""
    base, gen = (segment.base, segment.gen) if segment else (0, 0)
    slots = len(target.slots) // SLOT_SIZE
    return Vip(
        base, slots, target.service, gen, target.port, target.action, target.reason,
        target.flags, 0, 0, 0,
    )  # fmt: skip


def row(key: bytes, realised: Realised) -> bytes:
    """The bytes of a record in km_vip."""
    return check.seal(key, record(*realised).pack())


def stamp(segment: Segment) -> bytes:
    """The segment's slots with its gen in each."""
    return check.stamp(segment.slots, segment.gen)
