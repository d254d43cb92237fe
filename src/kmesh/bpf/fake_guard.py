"""The decision of the program that guards a namespace, in Python; a fake, as bpf/fake.py.

It follows bpf_c/judge.h step by step, so that a plan can be asked after each of its operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi import layout
from kmesh.abi.check import seal_last
from kmesh.abi.layout import Dimension, GuardMode, Reason
from kmesh.core.commands import EXEMPT, GUARD, LINK, MATCH, PEER, PREFIX
from kmesh.core.guard_rows import ALLOWS, DESTINATIONS, PEERS
from kmesh.core.policy import covers, exempt
from kmesh.core.policy_sets import summaries

if TYPE_CHECKING:
    from kmesh.core.policy import Attempt

Tables = dict[str, dict[bytes, bytes]]


class Decision(NamedTuple):
    """What a program decides: ``reason``, the endpoint when it is BALANCED, the policy that
    decided when there is one."""

    reason: Reason
    addr: bytes = b""
    port: int = 0
    workload: int = 0
    service: int = 0
    policy: int = 0


def admit(tables: Tables, rows: bytes | bytearray, netns: int, attempt: Attempt) -> Decision:
    """km_admit() of authz.bpf.c for TCP; without a link nobody asks the program."""
    if netns.to_bytes(8, "little") not in tables[LINK]:
        return Decision(Reason.NOT_ENROLLED)
    exempted = (layout.Cidr.unpack(value) for value in tables[EXEMPT].values())
    cidrs = [(cidr.base, cidr.plen) for cidr in exempted]
    if exempt(attempt.source, attempt.destination, cidrs):
        return Decision(Reason.EXEMPT)
    raw = tables[GUARD].get(attempt.destination)
    if raw is None:
        return Decision(Reason.UNLISTED)
    assert seal_last(attempt.destination, raw) == raw, "guard with a wrong check word"
    guard = layout.Guard.unpack(raw)
    if guard.mode == GuardMode.ALLOW:
        return Decision(Reason.ALLOWED, workload=guard.workload)
    if guard.mode != GuardMode.EVALUATE:
        return Decision(Reason(guard.reason), workload=guard.workload)
    return _evaluate(tables, rows, guard, attempt)


def _evaluate(
    tables: Tables, rows: bytes | bytearray, guard: layout.Guard, attempt: Attempt
) -> Decision:
    found = [
        _prefix(tables, guard.set, Dimension.SOURCE, attempt.source, guard.sources),
        _match(tables, guard.set, Dimension.PORT, attempt.port, guard.ports),
    ]
    if guard.flags & DESTINATIONS:
        where = Dimension.DESTINATION
        found.append(_prefix(tables, guard.set, where, attempt.destination, guard.destinations))
    else:
        found.append(guard.destinations)
    found.append(_identity(tables, guard, attempt.source))
    row = _row(rows, guard, found.pop())
    for base in found:
        row &= _row(rows, guard, base)
    bit = _first(row, 0, guard.deny)
    if bit is not None:
        return Decision(Reason.DENIED, workload=guard.workload, policy=_owner(rows, guard, bit))
    if not guard.flags & ALLOWS:
        return Decision(Reason.ALLOWED, workload=guard.workload)
    bit = _first(row, guard.deny, guard.allow)
    if bit is None:
        return Decision(Reason.NOT_ALLOWED, workload=guard.workload)
    return Decision(Reason.ALLOWED, workload=guard.workload, policy=_owner(rows, guard, bit))


def _identity(tables: Tables, guard: layout.Guard, source: bytes) -> int:
    if not guard.flags & PEERS:
        return guard.unknown
    raw = tables[PEER].get(source)
    if raw is None:
        return guard.unknown
    assert seal_last(source, raw) == raw, "peer with a wrong check word"
    identity = layout.Peer.unpack(raw).identity
    return _match(tables, guard.set, Dimension.IDENTITY, identity, guard.known)


def _prefix(tables: Tables, set_: int, dimension: int, addr: bytes, default: int) -> int:
    best, row = -1, default
    for raw_key, raw in tables[PREFIX].items():
        key, value = layout.PrefixKey.unpack(raw_key), layout.Prefix.unpack(raw)
        if (key.set, key.dimension) == (set_, dimension) and key.plen > best:
            cidr = layout.Cidr.unpack(value.covers)
            if covers((cidr.base, cidr.plen), addr):
                best, row = key.plen, value.row
    return row


def _match(tables: Tables, set_: int, dimension: int, value: int, default: int) -> int:
    key = layout.MatchKey(set_, dimension, value).pack()
    raw = tables[MATCH].get(key)
    if raw is None:
        return default
    assert seal_last(key, raw) == raw, "match with a wrong check word"
    return layout.Match.unpack(raw).row


def _row(rows: bytes | bytearray, guard: layout.Guard, base: int) -> int:
    """The bits that the program can reach: words that the summary does not name are zero."""
    head = summaries(guard.words)
    start = 8 * base
    summary = int.from_bytes(rows[start : start + 8 * head], "little")
    found = 0
    for word in range(guard.words):
        if summary >> word & 1:
            at = start + 8 * (head + word)
            found |= int.from_bytes(rows[at : at + 8], "little") << 64 * word
    return found


def _first(row: int, start: int, end: int) -> int | None:
    inside = row >> 64 * start & (1 << 64 * (end - start)) - 1
    return 64 * start + (inside & -inside).bit_length() - 1 if inside else None


def _owner(rows: bytes | bytearray, guard: layout.Guard, bit: int) -> int:
    at = 8 * guard.owners + 4 * bit
    return int.from_bytes(rows[at : at + 4], "little")
