"""Where ``GET /top`` gets its answers from in a running agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.bpf.tables import LIMITS
from kmesh.tasks.top import Fill, Sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kmesh.bpf.tables import KernelTables
    from kmesh.core.delta import Session
    from kmesh.tasks.fill import Filler
    from kmesh.tasks.ring import RingReader
    from kmesh.tasks.writer import Writer

NAMES = {
    "km_vip": "records",
    "km_slot": "endpoint slots",
    "km_cidr": "CIDR addresses",
    "km_enrol": "pods",
    "km_guard": "guards",
    "km_row": "policy words",
    "km_match": "policy values",
    "km_prefix": "policy CIDRs",
    "km_peer": "peers",
    "km_policy": "policies",
    "km_flow": "UDP flows",
    "km_traffic": "traffic counters",
}
"""Tables that people know by another name, in the order in which they are shown."""
OPTIONS = {
    **LIMITS,
    "km_slot": "--max-slots",
    "km_row": "--max-policy-words",
    "km_flow": "--udp-flows",
}


def sources(
    session: Session,
    writer: Writer,
    tables: KernelTables,
    filler: Filler,
    denials: RingReader,
    limits: Mapping[str, int],
) -> Sources:
    """``limits`` are the options' values by table."""
    steering = writer.steering

    def synced() -> bool:
        return session.synced and steering.started and steering.idle() and not writer.mailbox

    def fills() -> Iterator[Fill]:
        counted = filler.statistics().maps
        if not counted:  # nobody counts in the kernel: what the planner wrote
            yield from _planned(writer, limits)
        for table, what in NAMES.items():
            if table in counted:
                found = counted[table]
                option = OPTIONS.get(table, "")
                yield Fill(table, what, found.entries, found.capacity, found.limit, option,
                           found.full_in)  # fmt: skip

    return Sources(
        steering=steering,
        synced=synced,
        revision=lambda: writer.statistics().revision,
        fills=fills,
        reasons=lambda: {
            f"{hook.name.lower()} {reason.name.lower()}": count
            for (hook, reason), count in tables.reasons().items()
        },
        denials=lambda: denials.last,
    )


def _planned(writer: Writer, limits: Mapping[str, int]) -> Iterator[Fill]:
    found, guards = writer.steering.statistics(), writer.steering.guards.statistics()
    rows = (
        ("km_vip", found.records, found.record_capacity),
        ("km_slot", found.segments.used, found.segments.capacity),
        ("km_row", guards.row_words, guards.row_capacity),
    )
    for table, used, capacity in rows:
        limit = max(limits.get(table, capacity), capacity)
        yield Fill(table, NAMES[table], used, capacity, limit, OPTIONS[table])
