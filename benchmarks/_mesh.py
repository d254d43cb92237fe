"""A large mesh as model rows, and the loop that brings it into the kernel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.harness import Calls
from kmesh.core import addr
from kmesh.core.model import (
    Identity,
    Membership,
    Port,
    Profile,
    Service,
    Trait,
    Vip,
    Workload,
)
from kmesh.core.segments import Full

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kmesh.bpf.tables import KernelTables
    from kmesh.core.steer import Steering

PODS_PER_NODE = 60
FIRST_VIP = "10.16.0.0"
POD_BASE, VIP_BASE = 0x0A_40_00_00, 0x0A_10_00_00
PORTS = (Port(80, 8080), Port(9090, 9090))
Item = tuple[str, Workload | Service | None]


def service(key: str, vip: bytes, ports: tuple[Port, ...] = PORTS) -> Item:
    """A service by ``<namespace>/<hostname>``."""
    namespace, _, hostname = key.partition("/")
    return key, Service(key, namespace, hostname, (Vip("", vip),), ports)


def workload(
    name: str, ip: bytes, of: Sequence[str], ports: tuple[Port, ...] = PORTS, node: str = "n0"
) -> Item:
    """A pod, an endpoint of the services ``of``."""
    uid = f"Kubernetes//Pod/bench/{name}"
    row = Workload(
        uid,
        Identity("cluster.local", "bench", "default"),
        Profile("", "Kubernetes", node),
        (ip,),
        tuple(Membership(key, ports) for key in of),
        traits=int(Trait.HEALTHY | Trait.POD),  # a plain int, as the decoder makes it
    )
    return uid, row


def key_of(index: int) -> str:
    """The key of a service of the large mesh."""
    return f"bench/checkout-api-{index:05d}.bench.svc.cluster.local"


def pod_of(index: int, endpoints: int, ip: int | None = None) -> Item:
    """A pod of the large mesh, an endpoint of service ``index // endpoints``; ``ip`` replaces its
    address."""
    raw = (POD_BASE + index if ip is None else ip).to_bytes(4, "big")
    node = f"n{index // PODS_PER_NODE}"
    return workload(
        f"pod-{index:06d}", addr.from_wire(raw), [key_of(index // endpoints)], node=node
    )


def large(services: int, endpoints: int) -> Iterator[Item]:
    """Services with two ports and ``endpoints`` pods each, as Steering.put takes them."""
    for index in range(services):
        raw = (VIP_BASE + index).to_bytes(4, "big")
        yield service(key_of(index), addr.from_wire(raw))
    for index in range(services * endpoints):
        yield pod_of(index, endpoints)


class Spent:
    """CPU seconds of planning, writing and growing, with the longest slice; operations."""

    def __init__(self) -> None:
        self.plan, self.write, self.grow = Calls(), Calls(), Calls()
        self.ops = self.slices = 0


def settle(steer: Steering, tables: KernelTables, now: float | None = None) -> Spent:
    """Bring the kernel to what Steering wants, as the writer task does; raises BpfError."""
    spent = Spent()
    while True:
        at = time.monotonic() if now is None else now
        try:
            with spent.plan:
                ops = steer.next_ops(at)
        except Full as full:
            with spent.grow:
                _grow(steer, tables, full)
            continue
        if not ops and steer.idle():
            return spent
        with spent.write:
            outcome = tables.apply(ops)
        if outcome.error is not None:
            raise outcome.error
        with spent.plan:
            steer.report(ops, outcome, at)
        spent.ops += len(ops)
        spent.slices += 1


def _grow(steer: Steering, tables: KernelTables, full: Full) -> None:
    vips, slots = tables.capacity()
    wanted = {"km_vip": vips, "km_slot": slots}
    wanted[full.table] = max(2 * wanted[full.table], 1 << (full.need - 1).bit_length())
    tables.grow(wanted["km_vip"], wanted["km_slot"])
    vips, slots = tables.capacity()
    steer.planner.vip_capacity = vips
    steer.planner.segments.grow(slots)
