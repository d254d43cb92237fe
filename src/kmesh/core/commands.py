"""Operations on the kernel's tables, in the order in which they may be applied.

``PHASES`` is the planner's law in one line: leaves, branches, roots, then the same backwards.
Every operation may be repeated; dropping what is absent is success.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Phase(IntEnum):
    """When an operation is applied; lower first."""

    SLOTS = 0
    PUT_OWN_PORT = 1  # records of single views: not reachable before the default says so
    PUT_PORT = 2
    PUT_OWN_ANY_PORT = 3
    PUT_ANY_PORT = 4
    CIDRS_ON = 5
    PUT_CIDR = 6
    POD = 7
    ENROL = 8
    WITHDRAW = 9
    FORGET_POD = 10
    DROP_CIDR = 11
    CIDRS_OFF = 12
    DROP_ANY_PORT = 13
    DROP_PORT = 14
    DROP_OWN = 15
    RULES = 16  # what no guard leads to yet
    GUARD = 17
    LINK = 18
    UNLINK = 19
    DROP_GUARD = 20
    DROP_RULES = 21


class WriteSlots(NamedTuple):
    """Fill a segment that no record refers to: ``slots`` are 24 bytes each, to be written with
    this ``gen``."""

    base: int
    slots: bytes
    gen: int


class WriteRows(NamedTuple):
    """Fill part of km_row that no guard leads to: ``base`` counts words of 8 bytes."""

    base: int
    rows: bytes


class Put(NamedTuple):
    """Add or replace one row of a hash table. The check word of a record of km_vip is filled in
    when it is written: there are many."""

    table: str
    key: bytes
    value: bytes


class Drop(NamedTuple):
    """Remove one row of a hash table."""

    table: str
    key: bytes


Command = WriteSlots | WriteRows | Put | Drop


Owner = tuple[bytes, int] | int | None
"""A frontend, the cookie of a pod's namespace, or nobody in particular."""


class Op(NamedTuple):
    """A command, when it is done, and for whom."""

    phase: Phase
    command: Command
    owner: Owner


SLOT = "km_slot"
VIP, CIDR, ENROL, POD, CONFIG = "km_vip", "km_cidr", "km_enrol", "km_pod", "km_config"
GUARD, ROW, PREFIX, MATCH = "km_guard", "km_row", "km_prefix", "km_match"
PEER, EXEMPT, NAME, VERDICT = "km_peer", "km_exempt", "km_policy", "km_verdict"
OWN = "km_own"
LINK = "links"
"""Not a map: by the cookie of a namespace, the link of the program that guards it."""
