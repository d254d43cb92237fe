"""SIGKILL at every operation of a plan of a thousand, on the pinned maps.

``python -m tests.kernel.every_kill BPFFS EVERY NETNS NETNS NETNS`` changes the mesh of
tests/core/world.py again and again. For each operation (or each EVERY-th) a fork of this process is
the writer: it applies the plan one operation at a time and is killed there. Then the programs are
asked by real connections, the rows by the look-ups of FakeKernel, and a planner that knows nothing
but the maps takes them over. What was found is one JSON document; a violation is a traceback.

The forks spare a thousand starts of Python and of the verifier: the process must have one thread.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, TextIO

from kmesh.core.tables import Outcome
from tests.core.test_law import slices
from tests.core.world import World, met
from tests.kernel.pinned import rigged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmesh.bpf.fake import FakeKernel
    from kmesh.core.commands import Op
    from tests.held import Held
    from tests.kernel.pinned import Rig

OPERATIONS = 1000
PARTS = 4  # what is held is looked at so often
Answers = dict[object, object]


class Trials:
    """What was tried and found."""

    def __init__(self, rig: Rig, every: int) -> None:
        self._rig, self._every = rig, every
        self._world = World(rig.tables(), rig.cookies)
        slices(self._world.steer, rig.tables(), 0.0)
        self.operations = self.killed = self.connections = 0
        self.kinds = set[str]()

    def change(self) -> None:
        """One change of the mesh, killed at the operations whose turn it is."""
        rig, world = self._rig, self._world
        world.now += 1.0
        base = rig.copy()
        world.change()
        kinds = self._whole()
        before, self.operations = self.operations, self.operations + len(kinds)
        turns = [n for n in range(1, len(kinds) + 1) if (before + n) % self._every == 0]
        if turns:
            self._try(base, turns)
        rig.restore(base)
        assert sum(map(len, slices(world.steer, rig.tables(), world.now))) == len(kinds)
        self.kinds |= {*kinds}

    def _try(self, base: FakeKernel, turns: list[int]) -> None:
        """Killed at these operations of a change that has just been made whole."""
        rig = self._rig
        old, new = met(None, base, rig.cookies), met(None, rig.copy(), rig.cookies)
        named = self._adopted()
        for number in turns:
            rig.restore(base)
            self._kill_at(number)
            self._lookups(old, new)
            assert self._adopted() == named, f"operation {number} of the change"

    def _whole(self) -> list[str]:
        """A fork applies everything; the kinds of its operations."""
        read, write = os.pipe()
        with os.fdopen(read) as told, os.fdopen(write, "w") as tell:
            child = fork(lambda: self._tell(tell))
            tell.close()
            kinds: list[str] = json.load(told)
        assert os.waitpid(child, 0)[1] == 0
        return kinds

    def _tell(self, file: TextIO) -> None:
        json.dump([kind(op) for op in self._writer()], file)
        file.flush()

    def _kill_at(self, number: int) -> None:
        status = os.waitpid(fork(lambda: self._die_at(number)), 0)[1]
        assert os.WIFSIGNALED(status), status
        assert os.WTERMSIG(status) == signal.SIGKILL
        self.killed += 1

    def _die_at(self, number: int) -> None:
        for done, _ in enumerate(self._writer(), 1):
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)

    def _writer(self) -> Iterator[Op]:
        """Applies the plan, an operation at a time."""
        steer, tables, now = self._world.steer, self._rig.tables(), self._world.now
        while (ops := steer.next_ops(now)) or not steer.idle():
            for op in ops:
                assert tables.apply([op]).error is None
                yield op
            steer.report(ops, Outcome(len(ops), None), now)

    def _lookups(self, old: Answers, new: Answers) -> None:
        """Every look-up gives the old or the new answer, and real connections meet the same."""
        kernel = self._rig.copy()
        for question, answer in met(None, kernel, self._rig.cookies).items():
            assert answer in (old.get(question, answer), new.get(question)), question
        self.connections += self._rig.dials(kernel, self.killed)

    def _adopted(self) -> Answers:
        """A new planner brings the maps it finds to the end; what connections meet then."""
        tables = self._rig.tables()
        heir = self._world.agent(tables)
        slices(heir, tables, 0.0)
        assert heir.failing == {}
        return met(heir, self._rig.copy(), self._rig.cookies)


def kind(op: Op) -> str:
    """As tests/core/test_killed.py names them."""
    return type(op.command).__name__ + getattr(op.command, "table", "")


def fork(work: Callable[[], None]) -> int:
    """Pid of a fork that does this and ends; it never goes on with what its parent does."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:  # noqa: BLE001 the parent sees that it failed
        traceback.print_exc()
    finally:
        os._exit(1)


def main() -> None:
    """Command line."""
    bpffs, every, *paths = sys.argv[1:]
    began = time.monotonic()
    marks: list[Held] = []
    with rigged(bpffs, paths) as rig:
        trials = Trials(rig, int(every))
        while trials.operations < OPERATIONS:
            trials.change()
            if trials.operations >= (len(marks) + 1) * OPERATIONS // PARTS:
                marks.append(rig.held())
    json.dump({
        "operations": trials.operations, "killed": trials.killed,
        "connections": trials.connections, "kinds": sorted(trials.kinds), "held": marks,
        "seconds": time.monotonic() - began,
    }, sys.stdout)  # fmt: skip


if __name__ == "__main__":
    main()
