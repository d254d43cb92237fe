"""An agent that is killed between any two operations of a plan: the next one adopts what it finds.

A thousand operations of a mesh that changes: services, endpoints, policies, identities and
enrolments. After each of them what connections meet is the old or the new, and a new planner that
knows nothing but the kernel's tables and the control plane's answer leads to the same end.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from kmesh.bpf.fake import FakeKernel
from kmesh.core import addr
from kmesh.core.model import (
    Action,
    Authorization,
    Identity,
    Match,
    PolicyScope,
    Service,
    StringMatch,
    Workload,
)
from kmesh.core.policy import Attempt
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from tests.core.meshes import PLACES, service, uid, workload
from tests.core.test_law import copy, slices

if TYPE_CHECKING:
    from kmesh.core.commands import Op

OPERATIONS = 1000
COOKIES = {11: "a0", 12: "a1", 13: "b0"}
KEYS = ("default/web", "default/db", "other/web")
VIPS = {key: f"10.9.0.{i + 1}" for i, key in enumerate(KEYS)}
CIDR = "10.9.1.0/24"
SOURCES = ("10.1.0.1", "10.1.0.2", "10.1.0.5", "10.7.0.1")
DESTINATIONS = ("10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.1.4", "10.1.0.1")


class World:
    """What the control plane says, and the kernel in which an agent realises it."""

    def __init__(self) -> None:
        self.dice = random.Random(7)
        self.resources: dict[str, Workload | Service] = {}
        self.policies: dict[str, Authorization] = {}
        self.enrolled: dict[int, str] = {}
        self.kernel = FakeKernel(1 << 9, 1 << 9, 1 << 12)
        self.now = 0.0
        self.steer = self.agent(self.kernel)

    def agent(self, kernel: FakeKernel) -> Steering:
        """A new agent over a kernel, told everything there is."""
        store = Store("", "Kubernetes", "n1")
        steer = Steering(store, Segments(1 << 9), 1 << 9, rows=Segments(1 << 12))
        steer.adopt(kernel.scan(), kernel.scan_guards())
        steer.put(list(self.resources.items()))
        steer.put_policies(list(self.policies.items()))
        for cookie in set(steer.pods.wanted) - set(self.enrolled):
            steer.withdraw(cookie)
        for cookie, name in self.enrolled.items():
            steer.enrol(cookie, name)
        steer.start()
        steer.start_guarding()
        return steer

    def change(self) -> None:
        """Something new, told to the agent."""
        kind = self.dice.randrange(5)
        if kind == 0:
            self._enrol()
        elif kind == 1:
            self._policy()
        elif kind == 2:
            self._service()
        else:
            self._workload()

    def _put(self, name: str, value: Workload | Service | None) -> None:
        self.resources.pop(name, None)
        if value is not None:
            self.resources[name] = value
        self.steer.put([(name, value)])

    def _enrol(self) -> None:
        cookie = self.dice.choice(list(COOKIES))
        if cookie in self.enrolled and self.dice.random() < 0.5:
            del self.enrolled[cookie]
            self.steer.withdraw(cookie)
        else:
            self.enrolled[cookie] = uid(COOKIES[cookie])
            self.steer.enrol(cookie, self.enrolled[cookie])

    def _policy(self) -> None:
        key = f"default/p{self.dice.randrange(3)}"
        found = None
        if self.dice.random() < 0.7:
            match = Match(
                namespaces=(StringMatch("exact", self.dice.choice(("default", "other"))),),
                source_ips=(addr.network(addr.parse("10.1.0.0"), 30),) * self.dice.randrange(2),
                destination_ports=(80,) * self.dice.randrange(2),
            )
            action = self.dice.choice(list(Action))
            found = Authorization(key, "default", PolicyScope.NAMESPACE, action, (((match,),),))
        self.policies.pop(key, None)
        if found is not None:
            self.policies[key] = found
        self.steer.put_policies([(key, found)])

    def _service(self) -> None:
        key = self.dice.choice(KEYS)
        vips = [VIPS[key]] + [CIDR] * (key == KEYS[0] and self.dice.random() < 0.5)
        ports = ((80, 8080),) + ((443, 8443),) * self.dice.randrange(2)
        gone = self.dice.random() < 0.1
        self._put(key, None if gone else service(key, *vips, ports=ports))

    def _workload(self) -> None:
        index = self.dice.randrange(6)
        name = f"{'ab'[index % 2]}{index // 2}"
        account = self.dice.choice(("x", "y"))
        made = workload(
            name, f"10.1.0.{index + 1}", of=self.dice.choice(KEYS),
            profile=self.dice.choice(PLACES), healthy=self.dice.random() < 0.8,
        )._replace(identity=Identity("cluster.local", "default", account))  # fmt: skip
        gone = self.dice.random() < 0.15
        self._put(made.uid, None if gone else made)


def met(steer: Steering | None, kernel: FakeKernel) -> dict[object, object]:
    """What connections meet, out and in; with a planner services have names instead of ids."""
    found: dict[object, object] = {}
    for cookie in COOKIES:
        row = kernel.tables["km_enrol"].get(cookie.to_bytes(8, "little"))
        for text in DESTINATIONS if row else ():
            assert row is not None
            for port in (80, 443, 9):
                met_ = kernel.endpoints(addr.parse(text), port, int.from_bytes(row[4:8], "little"))
                ends = met_ if isinstance(met_, set) else {met_}
                found[cookie, text, port] = frozenset(
                    (e.reason, e.addr, e.port, steer and steer.service_ids.name(e.service))
                    for e in ends
                )
        for source in SOURCES:
            for own in ("10.1.0.1", "10.1.0.3", "10.1.0.2"):
                attempt = Attempt(addr.parse(source), addr.parse(own), 80)
                found[cookie, source, own, "in"] = kernel.admit(cookie, attempt).reason
    return found


def clone(kernel: FakeKernel) -> FakeKernel:
    other = copy(kernel)
    other.rows = bytearray(kernel.rows)
    return other


def test_killed_after_every_operation_of_a_thousand() -> None:
    world, done, kinds = World(), 0, set[str]()
    slices(world.steer, world.kernel, 0.0)
    while done < OPERATIONS:
        world.now += 1.0
        before = clone(world.kernel)
        old = met(None, before)
        world.change()
        ops: list[Op] = [op for plan in slices(world.steer, world.kernel, world.now) for op in plan]
        new, named = met(None, world.kernel), met(world.steer, world.kernel)
        for op in ops:
            before.apply([op])
            done += 1
            kinds.add(type(op.command).__name__ + getattr(op.command, "table", ""))
            now = met(None, before)
            for question, answer in now.items():
                assert answer in (old.get(question, answer), new.get(question)), (op, question)
            crashed = clone(before)
            heir = world.agent(crashed)
            slices(heir, crashed, 0.0)
            assert met(heir, crashed) == named, (done, op)
    assert kinds >= {
        "WriteSlots", "Putkm_vip", "Dropkm_vip", "Putkm_cidr", "Dropkm_cidr", "Dropkm_enrol",
        "WriteRows", "Putkm_guard", "Dropkm_own", "Putlinks", "Dropkm_match",
    }  # fmt: skip


def test_agents_that_die_young_leave_room_for_the_next() -> None:
    """Each compiles its policies anew and is killed before what it found may be removed."""
    world = World()
    world.enrolled = {cookie: uid(name) for cookie, name in COOKIES.items()}
    for index, name in enumerate(COOKIES.values()):
        made = workload(name, f"10.1.0.{index + 1}")
        world.resources[made.uid] = made
    match = Match(source_ips=(addr.network(addr.parse("10.1.0.0"), 24),), destination_ports=(80,))
    key = "default/p0"
    world.policies[key] = Authorization(
        key, "default", PolicyScope.NAMESPACE, Action.ALLOW, (((match,),),)
    )
    for _ in range(200):
        steer = world.agent(world.kernel)
        slices(steer, world.kernel, 0.0)
        assert not steer.guards.statistics().closed
    for now in (10.0, 20.0, 30.0):
        slices(steer, world.kernel, now)
    assert steer.guards.statistics().row_words < 200
    assert steer.guards.settled()
