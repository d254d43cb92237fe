"""Which pinned maps this build goes on using, and what becomes of the others.

Each map is judged by itself, by what the kernel says of it, so that maps of two builds beside each
other (after a crash) are nothing special.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi import btf, migrate, shapes
from kmesh.abi.layout import FINGERPRINT, META_SIZE, Meta
from kmesh.abi.migrate import Unlike
from kmesh.bpf import copies, lib
from kmesh.bpf.objects import FAMILIES, INDEXES, KEPT, META, OBJECTS
from kmesh.errors import NotCarried

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmesh.abi.shapes import Definition, Types
    from kmesh.bpf.sizes import Sizes


log = logging.getLogger(__name__)

SIZED_LATER = 1  # entries of a map whose size the loader sets


class Plan(NamedTuple):
    """What becomes of the pinned maps, by name; ``foreign``: another build made them.

    ``used`` are those that stay. All others are made anew with so many ``entries`` (where the
    object does not say it): with the rows of the old one when ``carried``, as they are or
    converted; else ``empty``, for a reason. No program may use them before the control plane has
    filled the families that are to be ``filled``.
    """

    foreign: bool
    used: tuple[str, ...]
    entries: dict[str, int]
    carried: dict[str, migrate.Rows | None]
    empty: dict[str, str]
    filled: tuple[str, ...]


def plan(old: Mapping[str, int], sizes: Sizes) -> Plan:
    """For the pinned maps. Raises NotCarried when something would be lost that nobody can tell us
    again, BpfError."""
    foreign = bool(old) and fingerprint(old.get(META)) != FINGERPRINT
    carried, empty = _judge_all(old) if foreign else (dict.fromkeys(old), {})
    lost = [f"{name}: {why}" for name, why in sorted(empty.items()) if name in KEPT]
    if lost:
        raise NotCarried(f"enrolments and switches would be lost: {'; '.join(lost)}")
    filled = [family for family in FAMILIES if foreign and _refilled(family, old, empty)]
    for family in filled:
        for name in FAMILIES[family] & carried.keys():
            del carried[name]
            empty[name] = f"{family} are filled anew"
    entries = {n: size for n in definitions() if (size := sizes.wanted(n, old.get(n)))}
    used = tuple(n for n, rows in carried.items() if rows is None and _fits(old[n], entries.get(n)))
    for name in used:
        del carried[name]
    waits = tuple(family for family in filled if copies.any_rows(old, FAMILIES[family]))
    return Plan(foreign, used, entries, carried, empty, waits)


def fill(plan: Plan, old: Mapping[str, int], new: Mapping[str, int]) -> None:
    """Carry the rows over into the new maps. Raises BpfError, NotCarried."""
    if plan.foreign:
        log.warning("the pinned tables are of another build: %s", described(plan))
    for name in plan.carried.keys() & new.keys():
        if lib.map_info(old[name]).type == lib.RING:
            log.warning("%s has another size now: records that were not read yet are lost", name)
            continue
        try:
            copies.copy(old[name], new[name], plan.carried[name])
        except Unlike as error:  # a program wrote such a row since it was planned
            raise NotCarried(f"{name}: {error}") from error


def described(plan: Plan) -> str:
    """A plan in words."""
    parts = [f"{len(plan.used)} tables are used as they are"]
    converted = sorted(name for name, rows in plan.carried.items() if rows)
    if converted:
        parts.append(f"converted: {', '.join(converted)}")
    parts += [f"{name} starts empty: {why}" for name, why in sorted(plan.empty.items())]
    if plan.filled:
        parts.append(f"waiting for the control plane to fill the {' and '.join(plan.filled)}")
    return "; ".join(parts)


def _judge_all(old: Mapping[str, int]) -> tuple[dict[str, migrate.Rows | None], dict[str, str]]:
    carried: dict[str, migrate.Rows | None] = {}
    empty: dict[str, str] = {}
    for name, definition in definitions().items():
        if name in old and name != META:
            try:
                carried[name] = judge(name, old[name], definition)
            except Unlike as error:
                empty[name] = str(error)
    return carried, empty


def _refilled(family: str, old: Mapping[str, int], empty: Mapping[str, str]) -> bool:
    """A table that went while another came may be the same one with another name."""
    names, gone = FAMILIES[family], old.keys() - definitions().keys()
    return bool(names & empty.keys()) or bool(gone and names - old.keys())


def _fits(fd: int, entries: int | None) -> bool:
    return entries in (None, lib.map_info(fd).max_entries)


def judge(name: str, fd: int, wanted: Definition) -> migrate.Rows | None:
    """None when this map can be used as it is, else how its rows are carried over. Raises Unlike
    when they cannot be, or when one of them does not fit."""
    info = lib.map_info(fd)
    if wanted.key is None or wanted.value is None:
        raise Unlike("records that were not read yet are lost")
    if not info.btf:
        raise Unlike("the kernel keeps no description of it")
    types = _described(info.btf)
    key, value = types.shape(info.key_type), types.shape(info.value_type)
    _compare_numbers(name, types)
    same_keys = migrate.same(key, wanted.key)
    if same_keys and migrate.same(value, wanted.value) and _alike(info, wanted):
        return None
    if info.type == lib.STORAGE:
        raise Unlike("what open sockets keep is of another layout")
    if info.type == lib.TRIE and not same_keys:
        raise Unlike("prefixes are of another layout")
    stride = 1 if info.row_size == info.value_size else 8
    rows = migrate.rows((key, value), (wanted.key, wanted.value), stride)
    for block in copies.blocks(fd):
        rows.check(block)
    return rows


def _alike(info: lib.MapInfo, wanted: Definition) -> bool:
    sized = wanted.entries in (SIZED_LATER, info.max_entries)
    return sized and (info.type, info.flags) == (wanted.type, wanted.flags)


def _compare_numbers(name: str, types: Types) -> None:
    """Of an array that is indexed by an enumeration."""
    for title, end in INDEXES.get(name, ()):
        before, now = types.enum(title), _enumeration(title)
        if not before or any(now.get(n) != number for n, number in before.items() if n != end):
            raise Unlike(f"{title} has other numbers")


def fingerprint(meta: int | None) -> bytes:
    """Of the build that made the maps; empty when there are none."""
    raw = None if meta is None else lib.lookup(meta, bytes(4), META_SIZE)
    return Meta.unpack(raw).fingerprint if raw else b""


@cache
def _objects() -> tuple[Types, ...]:
    files = (Path(one.path).read_bytes() for one in OBJECTS)
    return tuple(shapes.read(btf.section(file, ".BTF")) for file in files)


@cache
def definitions() -> dict[str, Definition]:
    """The maps of this build."""
    found: dict[str, Definition] = {}
    for types in reversed(_objects()):
        found |= types.definitions()
    return found


def _enumeration(title: str) -> dict[str, int]:
    return next((found for types in _objects() if (found := types.enum(title))), {})


@cache
def _described(number: int) -> Types:
    return shapes.read(lib.btf(number))
