"""Where ``GET /top`` gets its answers from in a running agent."""

from __future__ import annotations

import time
from socket import IPPROTO_UDP
from typing import TYPE_CHECKING

from kmesh.abi.layout import Direction
from kmesh.core.addr import text
from kmesh.core.flows import Flow, counts_of, plus, refusals
from kmesh.core.registry import LIMITS
from kmesh.tasks.top import LONGEST, Fill, Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kmesh.abi.layout import TrafficKey
    from kmesh.core.labels import Labels
    from kmesh.core.rates import Counts
    from kmesh.core.traffic import Row
    from kmesh.tasks.admin_context import Context
    from kmesh.tasks.traffic import TrafficTask
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
    "km_avoid": "avoided endpoints",
}
"""Tables that people know by another name, in the order in which they are shown."""
OPTIONS = {
    **LIMITS,
    "km_slot": "--max-slots",
    "km_row": "--max-policy-words",
    "km_flow": "--udp-flows",
    "km_traffic": "--max-traffic",
    "km_avoid": "--max-avoided",
}


def sources(context: Context) -> Sources:
    """From the parts of the agent."""
    writer, session, filler = context.writer, context.session, context.filler
    steering, limits = context.steering, context.limits
    counted = context.traffic.possible

    def synced() -> bool:
        return session.synced and steering.started and steering.idle() and not writer.mailbox

    def fills() -> Iterator[Fill]:
        found = filler.statistics().maps
        if not found:  # nobody counts in the kernel: what the planner wrote
            yield from _planned(writer, limits)
        for table, what in NAMES.items():
            if table in found:
                fill = found[table]
                option = OPTIONS.get(table, "")
                yield Fill(table, what, fill.entries, fill.capacity, fill.limit, option,
                           fill.full_in)  # fmt: skip

    return Sources(
        steering=steering,
        synced=synced,
        revision=lambda: writer.statistics().revision,
        fills=fills,
        reasons=lambda: {
            f"{hook.name.lower()} {reason.name.lower()}": count
            for (hook, reason), count in context.tables.reasons().items()
        },
        denials=lambda: context.denials.last,
        refused=lambda: refusals(context.tables.reasons()),
        traffic=Follower(context.traffic, context.labels).grown if counted else None,
    )


class Follower:
    """What the kernel's counters grew by between two questions; nothing is kept while nobody asks.

    Counters come with ids; names are found for what grew only.
    """

    def __init__(
        self, traffic: TrafficTask, labels: Labels, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._traffic, self._labels, self._clock = traffic, labels, clock
        self._until = 0.0
        self._grown: dict[Flow, Counts] = {}
        traffic.subscribe(self._take)

    async def grown(self) -> dict[Flow, Counts]:
        """Look at the counters now; growth since the last question."""
        asleep = self._clock() > self._until
        self._until = self._clock() + LONGEST
        await self._traffic.look()
        grown, self._grown = self._grown, {}
        return {} if asleep else grown

    def _take(self, rows: Sequence[Row]) -> None:
        if self._clock() > self._until:
            self._grown.clear()
            return
        for key, traffic in rows:
            if key.protocol == IPPROTO_UDP:
                continue
            flow = self._flow(key)
            counts = counts_of(key.result, traffic)
            have = self._grown.get(flow)
            self._grown[flow] = counts if have is None else plus(have, counts)

    def _flow(self, key: TrafficKey) -> Flow:
        labels, inbound = self._labels, key.direction == Direction.INBOUND
        uid = labels.uid(key.workload) or f"workload {key.workload}"
        service = labels.service_key(key.service)
        return Flow(uid, service, labels.owner(key.remote) or text(key.remote), inbound)


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
