"""How big the tables are made."""

from __future__ import annotations

from typing import NamedTuple

from kmesh.bpf import lib
from kmesh.bpf.objects import GROWING


class Sizes(NamedTuple):
    """Rows of each table: where it starts and the most it may become."""

    vips: int = 1 << 14
    slots: int = 1 << 18  # 6 MiB; growing costs a verifier run, as much as reading 50,000 workloads
    cidrs: int = 1 << 16
    pods: int = 4096
    flows: int = 1 << 14
    max_vips: int = 1_000_000
    max_slots: int = 4_000_000
    guards: int = 8192
    rows: int = 1 << 16
    max_rows: int = 1 << 23
    matches: int = 1 << 17
    peers: int = 1 << 18
    policies: int = 1 << 14
    exempt: int = 1024
    replies: int = 1 << 14
    events: int = 1 << 20  # bytes
    logs: int = 1 << 18  # bytes
    traffic: int = 1 << 14
    denials: int = 1 << 12  # pairs whose denials share a record
    avoid: int = 1 << 10
    gone: int = 1 << 10

    def of(self, name: str) -> int | None:
        """Entries of a map at first load; None when the object says it."""
        rows = {
            "km_vip": self.vips, "km_slot": self.slots, "km_cidr": self.cidrs,
            "km_enrol": self.pods, "km_pod": self.pods, "km_own": self.pods,
            "km_flow": self.flows,
            "km_guard": self.guards, "km_row": self.rows, "km_prefix": self.matches,
            "km_match": self.matches, "km_peer": self.peers, "km_exempt": self.exempt,
            "km_verdict": 4 * self.policies, "km_policy": self.policies,
            "km_denial": self.denials, "km_udp_out": self.replies, "km_events": self.events,
            "km_traffic": self.traffic, "km_logs": self.logs,
            "km_avoid": self.avoid, "km_gone": self.gone,
        }  # fmt: skip
        return rows.get(name)

    def wanted(self, name: str, pinned: int | None) -> int | None:
        """Entries of a map that is made, instead of a pinned one if there is one: never fewer;
        None when the object says it."""
        size = self.of(name)
        if size is None or pinned is None:
            return size
        has = lib.map_info(pinned).max_entries
        return has if name in GROWING else max(has, size)
