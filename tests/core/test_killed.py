"""An agent that is killed between any two operations of a plan: the next one adopts what it finds.

A thousand operations of a mesh that changes: services, endpoints, policies, identities and
enrolments. After each of them what connections meet is the old or the new, and a new planner that
knows nothing but the kernel's tables and the control plane's answer leads to the same end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.bpf.fake import FakeKernel
from kmesh.core import addr
from kmesh.core.model import Action, Authorization, Match, PolicyScope
from tests.core.meshes import uid, workload
from tests.core.test_law import copy, slices
from tests.core.world import PODS, SLOTS, VIP_ROWS, WORDS, World, met

if TYPE_CHECKING:
    from kmesh.core.commands import Op

OPERATIONS = 1000
COOKIES = (11, 12, 13)
KINDS = {
    "WriteSlots", "Putkm_vip", "Dropkm_vip", "Putkm_cidr", "Dropkm_cidr", "Dropkm_enrol",
    "WriteRows", "Putkm_guard", "Dropkm_own", "Putlinks", "Dropkm_match",
}  # fmt: skip


def clone(kernel: FakeKernel) -> FakeKernel:
    other = copy(kernel)
    other.rows = bytearray(kernel.rows)
    return other


def test_killed_after_every_operation_of_a_thousand() -> None:
    kernel = FakeKernel(VIP_ROWS, SLOTS, WORDS)
    world, done, kinds = World(kernel, COOKIES), 0, set[str]()
    slices(world.steer, kernel, 0.0)
    while done < OPERATIONS:
        world.now += 1.0
        before = clone(kernel)
        old = met(None, before, COOKIES)
        world.change()
        ops: list[Op] = [op for plan in slices(world.steer, kernel, world.now) for op in plan]
        new, named = met(None, kernel, COOKIES), met(world.steer, kernel, COOKIES)
        for op in ops:
            before.apply([op])
            done += 1
            kinds.add(type(op.command).__name__ + getattr(op.command, "table", ""))
            now = met(None, before, COOKIES)
            for question, answer in now.items():
                assert answer in (old.get(question, answer), new.get(question)), (op, question)
            crashed = clone(before)
            heir = world.agent(crashed)
            slices(heir, crashed, 0.0)
            assert met(heir, crashed, COOKIES) == named, (done, op)
    assert kinds >= KINDS


def test_agents_that_die_young_leave_room_for_the_next() -> None:
    """Each compiles its policies anew and is killed before what it found may be removed."""
    kernel = FakeKernel(VIP_ROWS, SLOTS, WORDS)
    world = World(kernel, COOKIES)
    world.enrolled = {cookie: uid(name) for cookie, name in world.cookies.items()}
    for index, name in enumerate(PODS):
        made = workload(name, f"10.1.0.{index + 1}")
        world.resources[made.uid] = made
    match = Match(source_ips=(addr.network(addr.parse("10.1.0.0"), 24),), destination_ports=(80,))
    key = "default/p0"
    world.policies[key] = Authorization(
        key, "default", PolicyScope.NAMESPACE, Action.ALLOW, (((match,),),)
    )
    for _ in range(200):
        steer = world.agent(kernel)
        slices(steer, kernel, 0.0)
        assert not steer.guards.statistics().closed
    for now in (10.0, 20.0, 30.0):
        slices(steer, kernel, now)
    assert steer.guards.statistics().row_words < 200
    assert steer.guards.settled()
