"""The writer's brain and tables in memory, driven by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.layout import Enrol, Reason
from kmesh.bpf.fake import FakeKernel, FaultyTables
from kmesh.bpf.fake_guard import Decision
from kmesh.core import addr
from kmesh.core.commands import ENROL, Op, Phase
from kmesh.core.model import Mode, Scope, Service, Workload
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from tests.core.meshes import DB, FAR, HOME, WEB, service, workload

if TYPE_CHECKING:
    from collections.abc import Callable


IP, SECOND = "10.9.0.1", "10.9.0.2"
ADDR, ADDR2 = addr.parse(IP), addr.parse(SECOND)
A, B = workload("a", "10.1.0.1", of=WEB), workload("b", "10.1.0.2", of=WEB)
MESH = (service(WEB, IP), A, B)


class Mesh:
    """A brain and its tables, driven by hand."""

    def __init__(
        self,
        tables: FakeKernel | None = None,
        slots: int = 1 << 10,
        vips: int = 1 << 10,
        rest: float = 2.0,
    ) -> None:
        self.tables = tables or FakeKernel(vips, slots)
        vips, slots = self.tables.capacity()
        store = Store(HOME.network, HOME.cluster, HOME.node)
        self.steer = Steering(store, Segments(slots, rest), vips)
        self.steer.adopt(self.tables.scan())
        self.now = 100.0

    def put(self, *resources: Workload | Service) -> None:
        self.steer.put([(r.key if isinstance(r, Service) else r.uid, r) for r in resources])

    def drop(self, *names: str) -> None:
        self.steer.put([(name, None) for name in names])

    def settle(self) -> list[Op]:
        """Everything that can be done now."""
        done: list[Op] = []
        for _ in range(1000):
            ops = self.steer.next_ops(self.now)
            if not ops and self.steer.idle():
                return done
            outcome = self.tables.apply(ops)
            self.steer.report(ops, outcome, self.now)
            done += ops[: outcome.done]
        raise AssertionError("never idle")

    def until(self, phase: Phase) -> list[Op]:
        """Everything before the first slice with this phase; that slice."""
        for _ in range(100):
            ops = self.steer.next_ops(self.now)
            if phase in phases(ops):
                return ops
            self.steer.report(ops, self.tables.apply(ops), self.now)
        raise AssertionError(f"no {phase!r}")

    def met(self, port: int = 80, ip: str = IP, view: int = 0) -> Reason | set[str]:
        """A reason, or the endpoints."""
        found = self.tables.endpoints(addr.parse(ip), port, view)
        if isinstance(found, Decision):
            return found.reason
        assert {each.reason for each in found} == {Reason.BALANCED}
        return {addr.host_port(each.addr, each.port) for each in found}


def started(*resources: Workload | Service, **more: object) -> Mesh:
    mesh = Mesh(**more)  # type: ignore[arg-type]
    mesh.put(*resources)
    mesh.steer.start()
    mesh.settle()
    return mesh


def phases(ops: list[Op]) -> list[Phase]:
    return [op.phase for op in ops]


# Pods and views

RANKED = service(WEB, IP, mode=Mode.FAILOVER, preference=(Scope.REGION,))
FAR_B = B._replace(profile=FAR)


def row(mesh: Mesh, cookie: int) -> Enrol:
    return Enrol.unpack(mesh.tables.tables[ENROL][cookie.to_bytes(8, "little")])


# Failures


def failing(at: Callable[[int], bool]) -> Mesh:
    mesh = Mesh(FaultyTables(at, 1 << 10, 1 << 10))
    mesh.steer.start()
    return mesh


RICH = (
    RANKED,
    service(DB, SECOND, "10.8.0.0/16", ports=((80, 1), (443, 2))),
    A,
    FAR_B,
    workload("d", "10.1.0.4", of=DB, capacity=3),
    workload("e", "10.1.0.5", of=(DB, WEB)),
    workload("client", "10.1.0.9", profile=FAR),
)
