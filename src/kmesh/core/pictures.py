"""Every table of the kernel as the planners believe that it lies there, for the audit.

Not among them: what the programs write (flows, counters, records), and the growing of a table,
which copies what is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.check import seal
from kmesh.abi.layout import Cidr, CidrKey
from kmesh.core.adopt import DAMAGED
from kmesh.core.audit import Picture
from kmesh.core.commands import (
    CIDR,
    CONFIG,
    ENROL,
    POD,
    SLOT,
    VIP,
)
from kmesh.core.guard_pictures import guard_pictures
from kmesh.core.mirror import Realised, stamp
from kmesh.core.plan import CONFIG_KEY, frontend_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from kmesh.core.mirror import Segment
    from kmesh.core.steer import Steering

LOST = Realised(DAMAGED, None)


def pictures(steering: Steering) -> list[Picture]:
    """One of each table that the writer fills; branches come before what leads to them."""
    return [
        _slots(steering), _records(steering), _cidrs(steering), _config(steering),
        _enrolments(steering, POD), _enrolments(steering, ENROL),
        *guard_pictures(steering.guards),
    ]  # fmt: skip


def _slots(steering: Steering) -> Picture:
    planner = steering.planner
    known: dict[bytes, Segment] = {}

    def keys() -> Iterator[bytes]:
        for segment in planner.used():
            key = segment.base.to_bytes(4, "little")
            known[key] = segment
            yield key

    def planned(key: bytes) -> bytes | None:
        segment = known.get(key)
        return None if segment is None or not planner.uses(segment) else stamp(segment)

    def found(key: bytes, _: bytes | None, now: float) -> None:
        for user in planner.users(known[key]):
            planner.found(user, LOST, now)
            steering.again(frontend_of(user))

    return Picture(SLOT, keys, planned, found)


def _records(steering: Steering) -> Picture:
    planner, raw = steering.planner, steering.planner.records.raw

    def planned(key: bytes) -> bytes | None:
        value = raw.get(key)
        return None if value is None else seal(key, value)

    def found(key: bytes, value: bytes | None, now: float) -> None:
        planner.found(key, None if value is None else LOST, now)
        steering.again(frontend_of(key))

    return Picture(VIP, lambda: list(planner.records), planned, found, unsealed=raw.get)


def _cidrs(steering: Steering) -> Picture:
    cidrs = steering.planner.cidrs

    def keys() -> Collection[bytes]:
        return [CidrKey(plen, addr).pack() for addr, plen in cidrs]

    def planned(raw: bytes) -> bytes | None:
        key = CidrKey.unpack(raw)
        known = (key.addr, key.plen) in cidrs
        return Cidr(key.addr, key.plen).pack() if known else None

    def found(raw: bytes, value: bytes | None, _: float) -> None:
        key = CidrKey.unpack(raw)
        frontend = (key.addr, key.plen)
        extra = value is not None and frontend not in cidrs
        (cidrs.add if extra else cidrs.discard)(frontend)
        steering.again(frontend)

    return Picture(CIDR, keys, planned, found)


def _config(steering: Steering) -> Picture:
    planner = steering.planner
    return Picture(
        CONFIG, lambda: [CONFIG_KEY], lambda _: planner.config(planner.cidrs_on).value,
        lambda *_: planner.lose_config()
)  # fmt: skip


def _enrolments(steering: Steering, table: str) -> Picture:
    pods = steering.pods

    def found(key: bytes, _: bytes | None, __: float) -> None:
        pods.found(table, key)
        steering.again(int.from_bytes(key, "little"))

    return Picture(table, lambda: pods.keys(table), lambda key: pods.planned(table, key), found)
