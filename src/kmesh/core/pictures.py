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
    EXEMPT,
    GUARD,
    LINK,
    MATCH,
    NAME,
    OWN,
    PEER,
    POD,
    PREFIX,
    ROW,
    SLOT,
    VERDICT,
    VIP,
    Drop,
    Op,
    Phase,
    Put,
    WriteRows,
)
from kmesh.core.mirror import Realised, stamp
from kmesh.core.plan import CONFIG_KEY, frontend_of
from kmesh.core.registry import COUNTED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from kmesh.core.mirror import Segment
    from kmesh.core.steer import Steering

LOST = Realised(DAMAGED, None)


def pictures(steering: Steering) -> list[Picture]:
    """One of each table that the writer fills; branches come before what leads to them."""
    guards = steering.guards
    return [
        _slots(steering), _records(steering), _cidrs(steering), _config(steering),
        _enrolments(steering, POD), _enrolments(steering, ENROL),
        _names(steering, NAME), _names(steering, VERDICT),
        _words(steering), _sets(steering, PREFIX), _sets(steering, MATCH), _peers(steering),
        _exempt(steering), _mirror(steering, OWN, lambda: guards.own.rows),
        _mirror(steering, GUARD, lambda: guards.records.rows), _links(steering),
    ]  # fmt: skip


def _always() -> bool:
    return True


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

    return Picture(SLOT, keys, planned, found, _always)


def _records(steering: Steering) -> Picture:
    planner, raw = steering.planner, steering.planner.records.raw

    def planned(key: bytes) -> bytes | None:
        value = raw.get(key)
        return None if value is None else seal(key, value)

    def found(key: bytes, value: bytes | None, now: float) -> None:
        planner.found(key, None if value is None else LOST, now)
        steering.again(frontend_of(key))

    return Picture(VIP, lambda: list(planner.records), planned, found, _always, unsealed=raw.get)


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

    return Picture(CIDR, keys, planned, found, _always)


def _config(steering: Steering) -> Picture:
    planner = steering.planner
    return Picture(
        CONFIG, lambda: [CONFIG_KEY], lambda _: planner.config(planner.cidrs_on).value,
        lambda *_: planner.lose_config(), _always,
    )  # fmt: skip


def _enrolments(steering: Steering, table: str) -> Picture:
    pods = steering.pods

    def found(key: bytes, _: bytes | None, __: float) -> None:
        pods.found(table, key)
        steering.again(int.from_bytes(key, "little"))

    return Picture(
        table, lambda: pods.keys(table), lambda key: pods.planned(table, key), found, _always
    )


def _sets(steering: Steering, table: str) -> Picture:
    guards, sets = steering.guards, steering.guards.sets

    def keys() -> Collection[bytes]:
        return [key for rules in sets.rules.values() for t, key in rules.values if t == table]

    def planned(key: bytes) -> bytes | None:
        return sets.value(table, key)

    return Picture(table, keys, planned, _repairing(steering, table, planned), guards.settled)


def _names(steering: Steering, table: str) -> Picture:
    guards, names = steering.guards, steering.guards.names
    known: dict[bytes, bytes] = {}
    version = -1

    def keys() -> Mapping[bytes, bytes]:
        nonlocal version
        if version != names.version:
            version = names.version
            known.clear()
            known.update(names.rows() if table == NAME else names.counters())
        return known

    def planned(key: bytes) -> bytes | None:
        return keys().get(key)

    found = _repairing(steering, table, planned)
    return Picture(
        table, lambda: list(keys()), planned, found, guards.settled, counts=table in COUNTED
    )


def _words(steering: Steering) -> Picture:
    guards, sets = steering.guards, steering.guards.sets
    known: dict[bytes, bytes] = {}

    def keys() -> Collection[bytes]:
        known.clear()
        for rules in sets.rules.values():
            known.update((base.to_bytes(4, "little"), raw) for base, raw in rules.words().items())
        return list(known)

    def found(key: bytes, _: bytes | None, __: float) -> None:
        words = WriteRows(int.from_bytes(key, "little"), known[key])
        guards.repair(Op(Phase.RULES, words, None))

    return Picture(ROW, keys, known.get, found, guards.settled)


def _repairing(
    steering: Steering, table: str, planned: Callable[[bytes], bytes | None]
) -> Callable[[bytes, bytes | None, float], None]:
    """These rows do not change: one that is not as it was written is put or dropped as it is."""

    def found(key: bytes, _: bytes | None, __: float) -> None:
        wanted = planned(key)
        if wanted is None:
            steering.guards.repair(Op(Phase.DROP_RULES, Drop(table, key), None))
        else:
            steering.guards.repair(Op(Phase.RULES, Put(table, key, wanted), None))

    return found


def _peers(steering: Steering) -> Picture:
    peers = steering.guards.peers
    return Picture(
        PEER, lambda: list(peers.rows), lambda key: peers.rows.get(key),
        lambda key, value, _: peers.found(key, value), _always,
    )  # fmt: skip


def _exempt(steering: Steering) -> Picture:
    guards = steering.guards

    def keys() -> Collection[bytes]:
        return [CidrKey(plen, addr).pack() for addr, plen in guards.exempt.there]

    def planned(raw: bytes) -> bytes | None:
        key = CidrKey.unpack(raw)
        return raw[4:] + raw[:4] if (key.addr, key.plen) in guards.exempt.there else None

    def found(raw: bytes, value: bytes | None, _: float) -> None:
        key = CidrKey.unpack(raw)
        cidr = (key.addr, key.plen)
        extra = value is not None and cidr not in guards.exempt.there
        (guards.exempt.there.add if extra else guards.exempt.there.discard)(cidr)
        guards.mark()

    return Picture(EXEMPT, keys, planned, found, guards.settled)


def _mirror(steering: Steering, table: str, rows: Callable[[], dict[bytes, bytes]]) -> Picture:
    def found(key: bytes, value: bytes | None, _: float) -> None:
        if value is None:
            rows().pop(key, None)
        else:
            rows()[key] = value
        steering.guards.mark()

    return Picture(table, lambda: list(rows()), lambda key: rows().get(key), found, _always)


def _links(steering: Steering) -> Picture:
    guards, places = steering.guards, steering.guards.places

    def planned(key: bytes) -> bytes | None:
        return places.links.get(int.from_bytes(key, "little"))

    def found(key: bytes, value: bytes | None, _: float) -> None:
        guards.found(int.from_bytes(key, "little"), value)

    return Picture(
        LINK, lambda: [cookie.to_bytes(8, "little") for cookie in places.links], planned, found,
        _always,
    )  # fmt: skip
