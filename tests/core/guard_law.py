"""A planner of authorization, driven one operation at a time and asked after each."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Reason
from kmesh.core import addr
from kmesh.core.model import (
    Action,
    Authorization,
    Identity,
    Match,
    PolicyScope,
)
from kmesh.core.policy import Attempt, judge
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.steps import never
from kmesh.core.store import Store
from tests.core.meshes import uid, workload
from tests.core.test_policy_sets import pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmesh.bpf.fake import FakeKernel
    from kmesh.core.model import Workload
    from kmesh.core.steps import Enough


PODS = {7: "10.0.0.1", 8: "10.0.0.2"}
PEERS = ("10.0.1.1", "192.168.0.1")
KEYS = tuple(f"a/p{i}" for i in range(4))


def pod(cookie: int, policies: tuple[str, ...] = (), identity: Identity | None = None) -> Workload:
    made = workload(f"pod{cookie}", PODS[cookie])._replace(policies=policies)
    return made._replace(identity=identity or Identity("cluster.local", "a", "a"))


def peer(index: int, identity: Identity) -> Workload:
    return workload(f"peer{index}", PEERS[index])._replace(identity=identity)


class Change(NamedTuple):
    """One batch from the control plane: policies, or workloads."""

    policies: Mapping[str, Authorization | None] = MappingProxyType({})
    workloads: Mapping[str, Workload | None] = MappingProxyType({})


class Model:
    """What the control plane said, and the verdicts that follow from it."""

    def __init__(self) -> None:
        self.policies: dict[str, Authorization] = {}
        self.workloads = {w.uid: w for w in map(pod, PODS)}

    def apply(self, change: Change) -> None:
        policies = {**self.policies, **change.policies}
        self.policies = {key: policy for key, policy in policies.items() if policy}
        workloads = {**self.workloads, **change.workloads}
        self.workloads = {name: each for name, each in workloads.items() if each}

    def reasons(self) -> dict[tuple[int, str, int], Reason]:
        """By pod, source and port."""
        found = {}
        for cookie, own in PODS.items():
            for source in (*PODS.values(), *PEERS, "fd00::1"):
                for port in (80, 9):
                    found[cookie, source, port] = self._reason(cookie, own, source, port)
        return found

    def _reason(self, cookie: int, own: str, source: str, port: int) -> Reason:
        if own == source:
            return Reason.EXEMPT
        pod_ = self.workloads[uid(f"pod{cookie}")]
        mine = []
        for key in pod_.policies:
            if key not in self.policies:
                return Reason.WAITING
        for policy in self.policies.values():
            if policy.scope is PolicyScope.GLOBAL:
                mine.append(policy)
            elif policy.scope is PolicyScope.NAMESPACE:
                mine += [policy] if policy.namespace == pod_.identity.namespace else []
            elif policy.key in pod_.policies:
                mine.append(policy)
        identity = next(
            (w.identity for w in self.workloads.values() if addr.parse(source) in w.addresses), None
        )
        return judge(mine, Attempt(addr.parse(source), addr.parse(own), port, identity)).reason


def steering(kernel: FakeKernel) -> Steering:
    made = Steering(Store("", "Kubernetes", "n1"), Segments(1 << 16), 1 << 16)
    made.adopt(kernel.scan(), kernel.scan_guards())
    return made


def asked(kernel: FakeKernel) -> dict[tuple[int, str, int], Reason]:
    return {
        (cookie, source, port): kernel.admit(
            cookie, Attempt(addr.parse(source), addr.parse(own), port)
        ).reason
        for cookie, own in PODS.items()
        for source in (*PODS.values(), *PEERS, "fd00::1")
        for port in (80, 9)
    }


class Law:
    """Drives a planner one operation at a time and asks after each."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel, self.now = kernel, 0.0
        self.enough: Enough = never
        self.steer = steering(kernel)

    def begin(self, model: Model) -> None:
        """The control plane's first answer."""
        self.feed(Change(dict(model.policies), dict(model.workloads)))
        for cookie in PODS:
            self.steer.enrol(cookie, uid(f"pod{cookie}"))
        self.steer.start()
        self.steer.start_guarding()

    def feed(self, change: Change) -> None:
        self.steer.put_policies(change.policies.items())
        self.steer.put(list(change.workloads.items()))

    def settle(self, *allowed: dict[tuple[int, str, int], Reason]) -> None:
        """Until idle; with ``allowed``, every verdict on the way is one of theirs."""
        for _ in range(50_000):
            if self.turn(*allowed):
                return
        raise AssertionError("never settles")

    def turn(self, *allowed: dict[tuple[int, str, int], Reason]) -> bool:
        """One operation, if one is ready; whether nothing is left to do."""
        self.now += 0.3
        ops = self.steer.next_ops(self.now, self.enough)
        if not ops and self.steer.idle() and not self.steer.guards.slices.relink:
            return True
        outcome = self.kernel.apply(ops[:1])
        self.steer.report(ops if outcome.done == len(ops) else ops[:1], outcome, self.now)
        if allowed and ops:
            self._check(allowed)
        return False

    def _check(self, allowed: tuple[dict[tuple[int, str, int], Reason], ...]) -> None:
        for question, reason in asked(self.kernel).items():
            assert reason in {each[question] for each in allowed}, question


def policy(count: int, key: str = "a/p0") -> Authorization:
    rules = tuple(((Match(destination_ports=(port,)),),) for port in range(count))
    return Authorization(key, "a", PolicyScope.NAMESPACE, Action.ALLOW, rules)


def broad(count: int) -> Authorization:
    """With so many rules of which no two can be joined."""
    rules = tuple(((match,),) for match in pairs(count))
    return Authorization("a/p0", "a", PolicyScope.NAMESPACE, Action.ALLOW, rules)
