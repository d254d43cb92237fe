"""A mesh that changes at random: services, endpoints, policies, identities and enrolments."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kmesh.bpf.fake import FakeKernel
    from kmesh.core.tables import Tables

PODS = ("a0", "a1", "b0")
VIP_ROWS, SLOTS, WORDS = 1 << 9, 1 << 9, 1 << 12
KEYS = ("default/web", "default/db", "other/web")
VIPS = {key: f"10.9.0.{i + 1}" for i, key in enumerate(KEYS)}
CIDR = "10.9.1.0/24"
SOURCES = ("10.1.0.1", "10.1.0.2", "10.1.0.5", "10.7.0.1")
DESTINATIONS = ("10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.1.4", "10.1.0.1")


class World:
    """What the control plane says, and the tables in which an agent realises it; ``cookies`` are
    those of the namespaces of PODS."""

    def __init__(self, tables: Tables, cookies: Sequence[int]) -> None:
        self.dice = random.Random(7)
        self.cookies = dict(zip(cookies, PODS, strict=True))
        self.resources: dict[str, Workload | Service] = {}
        self.policies: dict[str, Authorization] = {}
        self.enrolled: dict[int, str] = {}
        self.now = 0.0
        self.steer = self.agent(tables)

    def agent(self, tables: Tables) -> Steering:
        """A new agent over what the tables hold, told everything there is."""
        store = Store("", "Kubernetes", "n1")
        steer = Steering(store, Segments(SLOTS), VIP_ROWS, rows=Segments(WORDS))
        steer.adopt(tables.scan(), tables.scan_guards())
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
        cookie = self.dice.choice(list(self.cookies))
        if cookie in self.enrolled and self.dice.random() < 0.5:
            del self.enrolled[cookie]
            self.steer.withdraw(cookie)
        else:
            self.enrolled[cookie] = uid(self.cookies[cookie])
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


def met(steer: Steering | None, kernel: FakeKernel, cookies: Iterable[int]) -> dict[object, object]:
    """What connections meet, out and in; with a planner services have names instead of ids."""
    found: dict[object, object] = {}
    for cookie in cookies:
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
