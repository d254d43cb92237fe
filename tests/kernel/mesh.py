"""A data plane with its planner, driven step by step by a test."""

from __future__ import annotations

import errno
import socket
from functools import cache
from typing import TYPE_CHECKING

from kmesh.bpf import lib, load, objects, removal
from kmesh.bpf.sizes import Sizes
from kmesh.bpf.tables import KernelTables
from kmesh.core.commands import Op, Phase
from kmesh.core.model import Workload
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from tests.core import meshes

if TYPE_CHECKING:
    from kmesh.core.model import Service
    from tests.kernel.net import Namespace

SMALL = Sizes(vips=256, slots=256, cidrs=64, pods=16, flows=64, max_vips=1024, max_slots=1024)


@cache
def refused() -> int:
    """The errno that a refused application sees: programs may choose it since Linux 5.18."""
    precise = lib.helper_allowed(objects.CGROUP["connect4"], lib.SET_RETVAL)
    return errno.ECONNREFUSED if precise else errno.EPERM


class Mesh:
    """What the writer task does, without the task."""

    def __init__(self, bpffs: str, sizes: Sizes, open_reasons: int = 0) -> None:
        self.plane = load.start(bpffs, "", sizes)
        self.tables = KernelTables(self.plane)
        self.now = 0.0
        self.begin(open_reasons)

    def begin(self, open_reasons: int = 0) -> None:
        """A new planner for what the tables hold, as an agent that starts makes one."""
        vips, slots = self.tables.capacity()
        store = Store("", "Kubernetes", "n1")
        self.steering = Steering(store, Segments(slots, 0.05), vips, open_reasons)
        self.steering.adopt(self.tables.scan(), self.tables.scan_guards())
        planner = self.steering.planner
        assert (
            self.tables.apply([Op(Phase.CIDRS_ON, planner.config(planner.cidrs_on), None)]).error
            is None
        )

    def put(self, *resources: Workload | Service) -> None:
        """Add or change, and write everything."""
        self.steering.put([(r.uid if isinstance(r, Workload) else r.key, r) for r in resources])
        self.settle()

    def remove(self, *names: str) -> None:
        """Remove by name, and write everything."""
        self.steering.put([(name, None) for name in names])
        self.settle()

    def enrol(self, pod: Namespace, name: str = "client", namespace: str = "default") -> None:
        """Bring a namespace into the mesh."""
        self.steering.enrol(pod.cookie, meshes.uid(name, namespace))
        self.settle()

    def settle(self) -> None:
        """Plan and apply until nothing is left."""
        if not self.steering.started:
            self.steering.start()
        self.now += 1.0
        while (ops := self.steering.next_ops(self.now)) or not self.steering.idle():
            if ops:
                outcome = self.tables.apply(ops)
                assert outcome.error is None, outcome.error
                self.steering.report(ops, outcome, self.now)

    def count(self, hook: str, reason: str) -> int:
        """How often a program ended for a reason."""
        found = self.tables.reasons()
        return sum(n for (h, r), n in found.items() if (h.name, r.name) == (hook, reason))

    def verdicts(self) -> dict[tuple[str, str], int]:
        """How often each policy decided how; zeros left out."""
        names = self.steering.guards.names
        return {
            (names.name(policy), verdict.name): count
            for (policy, verdict), count in self.tables.verdicts().items()
        }

    def close(self) -> None:
        """Remove the programs and the pins."""
        root = self.plane.root
        self.plane.close()
        removal.remove(root.removesuffix("/kmesh"))


def dial(pod: Namespace, address: str, port: int) -> str:
    """Who answers a TCP connection; raises OSError when it fails."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pod.socket(family) as client:
        client.connect((address, port))
        return client.recv(100).decode()
