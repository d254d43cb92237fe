"""The kernel's tables that the writer fills, one row each; everything else asks here what a table
is. Its picture (core.pictures) and its words (core.row_names) are functions by its name, and a test
tells when a table of these has none."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

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
)


class Shape(Enum):
    """How a table is walked and asked. A trie that is asked for one row may answer with a shorter
    prefix; an array is memory; links are no map."""

    HASH = auto()
    TRIE = auto()
    ARRAY = auto()
    SINGLE = auto()
    LINKS = auto()


class Table(NamedTuple):
    """``option`` limits its size; many rows of one that is ``batched`` are written by one system
    call, those of one that is ``sealed`` end with a check word, and of one that ``counts`` the
    programs write the values."""

    name: str
    shape: Shape
    option: str = ""
    batched: bool = False
    sealed: bool = False
    counts: bool = False


TABLES = (
    Table(SLOT, Shape.ARRAY),
    Table(VIP, Shape.HASH, "--max-vips", batched=True, sealed=True),
    Table(CIDR, Shape.TRIE, "--max-cidrs"),
    Table(CONFIG, Shape.SINGLE),
    Table(ENROL, Shape.HASH, "--max-pods"),
    Table(POD, Shape.HASH, "--max-pods"),
    Table(GUARD, Shape.HASH, "--max-guards"),
    Table(ROW, Shape.ARRAY),
    Table(PREFIX, Shape.TRIE, "--max-policy-values"),
    Table(MATCH, Shape.HASH, "--max-policy-values", batched=True),
    Table(PEER, Shape.HASH, "--max-peers", batched=True),
    Table(EXEMPT, Shape.TRIE),
    Table(NAME, Shape.HASH, "--max-policies", batched=True),
    Table(OWN, Shape.HASH),
    Table(VERDICT, Shape.HASH, "--max-policies", counts=True),
    Table(LINK, Shape.LINKS),
)


def _of(*shapes: Shape) -> tuple[str, ...]:
    return tuple(each.name for each in TABLES if each.shape in shapes)


ARRAYS, TRIES = _of(Shape.ARRAY), _of(Shape.TRIE)
MAPS = _of(Shape.HASH, Shape.TRIE, Shape.SINGLE)
UNBATCHED = _of(Shape.TRIE, Shape.SINGLE)
LIMITS = {each.name: each.option for each in TABLES if each.option}
BATCHED = tuple(each.name for each in TABLES if each.batched)
SEALED = tuple(each.name for each in TABLES if each.sealed)
COUNTED = tuple(each.name for each in TABLES if each.counts)
