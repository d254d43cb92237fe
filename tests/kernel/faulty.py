"""One call of ten on the pinned maps fails while the mesh of tests/core/world.py changes.

``python -m tests.kernel.faulty BPFFS NETNS NETNS NETNS``. After each operation rows are looked up,
after each change real connections are made and another planner compares. What was found is one JSON
document; a violation is a traceback.
"""

from __future__ import annotations

import errno
import json
import random
import sys
from typing import TYPE_CHECKING

from kmesh.bpf.tables import KernelTables
from kmesh.core.tables import Outcome
from kmesh.errors import BpfError
from tests.core.test_law import slices
from tests.core.world import World, met
from tests.kernel.pinned import rigged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kmesh.core.commands import Op
    from tests.held import Held
    from tests.kernel.pinned import Rig

OPERATIONS = 200
PARTS = 4
LATER = 100.0  # seconds: what failed is due again
ROUNDS = 100


class Faulty(KernelTables):
    """Fails one operation in ten; tells of each that it applied."""

    def __init__(self, rig: Rig, applied: Callable[[], None]) -> None:
        super().__init__(rig.plane)
        self.operations = self.faults = 0
        self._applied, self._dice = applied, random.Random(11)

    def apply(self, ops: Sequence[Op]) -> Outcome:
        """As the kernel does: what comes before the fault is applied."""
        for done, op in enumerate(ops):
            if self._dice.random() < 0.1:
                self.faults += 1
                return Outcome(done, BpfError("injected", errno.ENOMEM))
            outcome = super().apply([op])
            assert outcome.error is None, outcome.error
            self.operations += 1
            self._applied()
        return Outcome(len(ops), None)


class Trial:
    """The mesh, the tables, and what connections met on the way."""

    def __init__(self, rig: Rig) -> None:
        self.connections = 0
        self._rig, self._seen = rig, list[dict[object, object]]()
        self.tables = Faulty(rig, lambda: self._seen.append(self._met()))
        for pod in rig.pods:
            self.tables.remember(pod.cookie, pod.path)
        self._world = World(self.tables, rig.cookies)
        self._settle()

    def change(self) -> None:
        """One change of the mesh, until it is wholly in the kernel."""
        old = self._met()
        self._world.change()
        for pod in self._rig.pods:  # who was withdrawn is forgotten
            self.tables.remember(pod.cookie, pod.path)
        self._seen.clear()
        self._settle()
        new = self._met()
        for found in self._seen:
            for question, answer in found.items():
                assert answer in (old.get(question, answer), new.get(question)), question
        kernel = self._rig.copy()
        self.connections += self._rig.dials(kernel, self.tables.operations)
        tables = self._rig.tables()
        slices(self._world.agent(tables), tables, 0.0)
        assert self._met() == new, "another planner finds something to change"
        self._rig.restore(kernel)  # it wrote its own

    def _settle(self) -> None:
        steer, world = self._world.steer, self._world
        for _ in range(ROUNDS):
            while ops := steer.next_ops(world.now):
                steer.report(ops, self.tables.apply(ops), world.now)
            if steer.idle() and steer.next_due() is None:
                return
            world.now += LATER
        raise AssertionError("it does not get there")

    def _met(self) -> dict[object, object]:
        return met(None, self._rig.copy(), self._rig.cookies)


def main() -> None:
    """Command line."""
    bpffs, *paths = sys.argv[1:]
    marks: list[Held] = []
    with rigged(bpffs, paths) as rig:
        trial = Trial(rig)
        while trial.tables.operations < OPERATIONS:
            trial.change()
            if trial.tables.operations >= (len(marks) + 1) * OPERATIONS // PARTS:
                marks.append(rig.held())
    tables = trial.tables
    json.dump({
        "operations": tables.operations, "faults": tables.faults,
        "connections": trial.connections, "held": marks,
    }, sys.stdout)  # fmt: skip


if __name__ == "__main__":
    main()
