"""The tables of authorization as their planner believes that they lie there, for the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.layout import CidrKey
from kmesh.core.audit import Picture
from kmesh.core.commands import (
    EXEMPT,
    GUARD,
    LINK,
    MATCH,
    NAME,
    OWN,
    PEER,
    PREFIX,
    ROW,
    VERDICT,
    Drop,
    Op,
    Phase,
    Put,
    WriteRows,
)
from kmesh.core.registry import COUNTED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from kmesh.core.guards import Guards


def guard_pictures(guards: Guards) -> list[Picture]:
    """One of each table; branches come before what leads to them."""
    return [
        _names(guards, NAME), _names(guards, VERDICT),
        _words(guards), _sets(guards, PREFIX), _sets(guards, MATCH), _peers(guards),
        _exempt(guards), _mirror(guards, OWN, lambda: guards.own.rows),
        _mirror(guards, GUARD, lambda: guards.records.rows), _links(guards),
    ]  # fmt: skip


def _sets(guards: Guards, table: str) -> Picture:
    sets = guards.sets

    def keys() -> Collection[bytes]:
        return [key for rules in sets.rules.values() for t, key in rules.values if t == table]

    def planned(key: bytes) -> bytes | None:
        return sets.value(table, key)

    return Picture(table, keys, planned, _repairing(guards, table, planned), guards.settled)


def _names(guards: Guards, table: str) -> Picture:
    names = guards.names
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

    found = _repairing(guards, table, planned)
    return Picture(
        table, lambda: list(keys()), planned, found, guards.settled, counts=table in COUNTED
    )


def _words(guards: Guards) -> Picture:
    sets = guards.sets
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
    guards: Guards, table: str, planned: Callable[[bytes], bytes | None]
) -> Callable[[bytes, bytes | None, float], None]:
    """These rows do not change: one that is not as it was written is put or dropped as it is."""

    def found(key: bytes, _: bytes | None, __: float) -> None:
        wanted = planned(key)
        if wanted is None:
            guards.repair(Op(Phase.DROP_RULES, Drop(table, key), None))
        else:
            guards.repair(Op(Phase.RULES, Put(table, key, wanted), None))

    return found


def _peers(guards: Guards) -> Picture:
    peers = guards.peers
    return Picture(
        PEER, lambda: list(peers.rows), lambda key: peers.rows.get(key),
        lambda key, value, _: peers.found(key, value)
)  # fmt: skip


def _exempt(guards: Guards) -> Picture:
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


def _mirror(guards: Guards, table: str, rows: Callable[[], dict[bytes, bytes]]) -> Picture:
    def found(key: bytes, value: bytes | None, _: float) -> None:
        if value is None:
            rows().pop(key, None)
        else:
            rows()[key] = value
        guards.mark()

    return Picture(table, lambda: list(rows()), lambda key: rows().get(key), found)


def _links(guards: Guards) -> Picture:
    places = guards.places

    def planned(key: bytes) -> bytes | None:
        return places.links.get(int.from_bytes(key, "little"))

    def found(key: bytes, value: bytes | None, _: float) -> None:
        guards.found(int.from_bytes(key, "little"), value)

    return Picture(
        LINK, lambda: [cookie.to_bytes(8, "little") for cookie in places.links], planned, found
)  # fmt: skip
