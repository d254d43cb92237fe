"""A node to look at: a real steering with services, enrolled pods, and counters that grow."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from kmesh.bpf.fake import FakeKernel
from kmesh.core.flows import COLUMNS, Flow, plus
from kmesh.core.records import Denial
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from kmesh.tasks.top import Fill, Sources
from tests.core.meshes import HOME, NEAR, service, workload

if TYPE_CHECKING:
    from kmesh.core.model import Service, Workload
    from kmesh.core.rates import Counts

SHOP = (
    ("frontend", 3), ("cart", 4), ("checkout", 3), ("payments", 2), ("catalog", 6), ("search", 4),
    ("inventory", 3), ("shipping", 2), ("accounts", 3), ("ads", 2),
)  # fmt: skip
CALLS = (
    ("frontend-0", "cart", 42.0, 0.4), ("frontend-0", "catalog", 118.0, 0.3),
    ("frontend-0", "ads", 0.0, 0.0), ("frontend-0", "search", 33.0, 2.4),
    ("cart-1", "inventory", 18.0, 0.6), ("checkout-0", "payments", 4.5, 3.1),
    ("checkout-0", "shipping", 4.0, 1.1), ("checkout-0", "cart", 5.0, 0.4),
    ("search-2", "catalog", 61.0, 0.3), ("accounts-0", "ads", 0.0, 0.0),
)  # fmt: skip
CALLERS = (("frontend-0", "gateway-7d4", 96.0), ("accounts-0", "gateway-7d4", 7.0),
           ("checkout-0", "frontend-1", 4.0), ("search-2", "frontend-2", 21.0))  # fmt: skip
LOCAL = ("frontend-0", "cart-1", "checkout-0", "search-2", "accounts-0")


def uid(name: str) -> str:
    """Uid of a pod of the shop."""
    return f"Kubernetes//Pod/shop/{name}"


def key(name: str) -> str:
    """Key of a service of the shop."""
    return f"shop/{name}.shop.svc.cluster.local"


class Node:
    """``count`` services in all; ``tick`` lets a second pass."""

    def __init__(self, count: int = len(SHOP), traffic: bool = True) -> None:
        self.now = 1000.0
        self.traffic = traffic
        self.failing = {"payments": 0.8}
        self.refused = {"frontend-0": 3.0}
        self.reasons = {"connect4 balanced": 90_000, "lookup denied": 12}
        self._grown: dict[Flow, Counts] = {}
        self._refused = self.opened = 0
        self._random = random.Random(7)
        self.steering = Steering(Store("", "Kubernetes", "n1"), Segments(1 << 16), 1 << 16)
        self.steering.put(self._resources(count))
        self.steering.start()
        for number, name in enumerate(LOCAL, 1):
            self.steering.enrol(number, uid(name))
        self.settle()

    def settle(self) -> None:
        """Plan and apply everything."""
        tables = FakeKernel()
        while True:
            ops = self.steering.next_ops(0.0)
            if not ops and self.steering.idle():
                return
            self.steering.report(ops, tables.apply(ops), 0.0)

    def _resources(self, count: int) -> list[tuple[str, Workload | Service | None]]:
        found: list[tuple[str, Workload | Service | None]] = []
        for number, (name, members) in enumerate(SHOP):
            found.append((key(name), service(key(name), f"10.96.0.{number + 1}")))
            found += [self._pod(name, number, index) for index in range(members)]
        for number in range(len(SHOP), count):
            name = f"team{number % 20}/app-{number:04}.team{number % 20}.svc.cluster.local"
            vip = f"10.97.{number // 250}.{number % 250 + 1}"
            found.append((name, service(name, vip)))
            address = f"10.8.{number // 250}.{number % 250 + 1}"
            pod = workload(f"app-{number}-0", address, of=name, profile=NEAR)
            found.append((pod.uid, pod))
        return found

    def _pod(self, name: str, number: int, index: int) -> tuple[str, Workload]:
        place = HOME if f"{name}-{index}" in LOCAL else NEAR
        healthy = not ((name == "payments" and index == 0) or name == "ads")
        pod = workload(
            f"{name}-{index}", f"10.0.{number}.{index + 1}", of=key(name), namespace="shop",
            profile=place, healthy=healthy,
        )  # fmt: skip
        return pod.uid, pod

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass and counters grow."""
        self.now += seconds
        for source, target, rate, rtt in CALLS:
            flow = Flow(uid(source), key(target), "", False)
            refused = self.refused.get(source, 0.0) if target == "ads" else 0.0
            self._grow(flow, (rate, self.failing.get(target, 0.0), refused), seconds, rtt)
        for target, source, rate in CALLERS:
            flow = Flow(uid(target), "", uid(source), True)
            self._grow(flow, (rate, 0.0, 0.0), seconds, 0.5)

    def _grow(
        self, flow: Flow, rates: tuple[float, float, float], seconds: float, rtt_ms: float
    ) -> None:
        swing = seconds * self._random.uniform(0.85, 1.15)
        opened, failed, refused = (round(rate * swing) for rate in rates)
        grown = (
            opened, opened, failed, refused, opened * 900, opened * 5200,
            round(opened * rtt_ms * 1000), opened, opened // 40, 0,
        )  # fmt: skip
        have = self._grown.get(flow, (0,) * len(COLUMNS))
        self._grown[flow] = plus(have, grown)
        self._refused += refused
        self.opened += 0 if flow.inbound else opened

    def denials(self) -> list[Denial]:
        """A few, at fixed ages."""
        return [
            Denial(
                round((self.now - age) * 1e9), f"10.0.9.{number}:4{number}312", uid(source),
                f"10.0.2.1:80{number}0", uid("checkout-0"), "tcp", policy, reason, dry_run, more,
            )
            for number, (age, source, policy, reason, dry_run, more) in enumerate((
                (7200, "batch-1", "shop/deny-batch", "denied", False, 41),
                (340, "debug-shell", "", "not_allowed", False, 0),
                (61, "frontend-1", "shop/only-cart", "not_allowed", True, 3),
                (4, "debug-shell", "istio-system/mesh-wide", "denied", False, 0),
            ))
        ]  # fmt: skip

    async def grown(self) -> dict[Flow, Counts]:
        """What the counters grew by since they were asked last."""
        grown, self._grown = self._grown, {}
        return grown

    def fills(self) -> list[Fill]:
        """As config and steering say."""
        found = self.steering.statistics()
        segments = found.segments
        return [
            Fill("km_vip", "records", found.records, 16384, 1_000_000, "--max-vips"),
            Fill("km_slot", "endpoint slots", segments.used, segments.capacity, 4_000_000,
                 "--max-slots"),
            Fill("km_enrol", "pods", found.pods, 4096, 4096, "--max-pods"),
            Fill("km_row", "policy words", 61_000, 65_536, 65_536, "--max-policy-words", 7200.0),
        ]  # fmt: skip

    def sources(self) -> Sources:
        """For Top."""
        return Sources(
            self.steering, lambda: True, lambda: 7, self.fills, lambda: dict(self.reasons),
            self.denials, lambda: self._refused, self.grown if self.traffic else None,
        )  # fmt: skip


class Flowing(Node):
    """A node whose seconds pass by themselves, for looking at it."""

    def clock(self) -> float:
        """Monotonic; the counters grow with it."""
        passed = time.monotonic() - self._start
        while self.now < 1000 + passed:
            self.tick()
        return self.now

    _start = time.monotonic()
