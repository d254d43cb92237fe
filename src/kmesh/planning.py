"""What the options say about the tables and about the planner of what goes into them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.layout import Reason
from kmesh.bpf.sizes import Sizes
from kmesh.core.commands import ROW, Op, Phase
from kmesh.core.guard_status import GuardLimits
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store

if TYPE_CHECKING:
    from kmesh.bpf.tables import KernelTables
    from kmesh.config import Config
    from kmesh.core.roster import Roster


def sizes(config: Config) -> Sizes:
    """Table sizes from the configuration."""
    first = Sizes()
    return Sizes(
        vips=min(first.vips, config.max_vips),
        slots=min(first.slots, config.max_slots),
        cidrs=config.max_cidrs,
        pods=config.max_pods,
        flows=config.udp_flows,
        max_vips=config.max_vips,
        max_slots=config.max_slots,
        guards=2 * config.max_pods,
        rows=min(first.rows, config.max_policy_words),
        max_rows=config.max_policy_words,
        matches=config.max_policy_values,
        peers=config.max_peers,
        policies=config.max_policies,
        traffic=config.max_traffic,
        avoid=config.max_avoided,
        events=config.ring_size,
        logs=config.log_ring_size,
    )


def steering(config: Config, tables: KernelTables, roster: Roster) -> Steering:
    """The writer's brain, with everything the kernel holds adopted and the knobs written."""
    vips, slots = tables.capacity()
    store = Store(config.network, config.cluster_id, config.node_name, roster)
    open_reasons = sum(1 << Reason[name.upper().replace("-", "_")] for name in config.fail_open)
    found = Steering(
        store,
        Segments(slots, config.segment_rest),
        vips,
        open_reasons,
        bypass_waypoints="waypoint" in config.fail_open,
        rows=Segments(tables.row_capacity(), config.segment_rest, ROW),
        exempt=config.exempt_cidrs,
        limits=GuardLimits(config.max_policy_values, config.max_peers, config.max_policies),
    )
    found.adopt(tables.scan(), tables.scan_guards())
    planner = found.planner
    outcome = tables.apply([Op(Phase.CIDRS_ON, planner.config(planner.cidrs_on), None)])
    if outcome.error is not None:
        raise outcome.error
    return found
