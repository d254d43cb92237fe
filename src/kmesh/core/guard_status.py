"""How pods are guarded, as dumps and metrics show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import GuardMode, Reason
from kmesh.core.conjunctions import MOST_BITS

if TYPE_CHECKING:
    from kmesh.core.policy_index import Applicable


class PodGuard(NamedTuple):
    """How a pod is guarded: ``mode``, ``why`` it is closed if it is, and its policies."""

    cookie: int
    uid: str
    mode: GuardMode
    reason: Reason
    policies: tuple[str, ...]
    missing: tuple[str, ...]
    set: int
    why: str = ""


class GuardLimits(NamedTuple):
    """Rows that the tables hold at most: values that sets name, peers, policies; combinations of
    the rules of one pod, which no option raises."""

    values: int = 1 << 17
    peers: int = 1 << 18
    policies: int = 1 << 14
    combinations: int = MOST_BITS


class GuardStatistics(NamedTuple):
    """The state of authorization as the planner sees it. ``policies_used`` have an effect on this
    node, ``combinations`` are those of the pod with the most."""

    started: bool
    policies: int
    policies_used: int
    combinations: int
    sets: int
    guards: int
    peers: int
    identities: int
    values: int
    limits: GuardLimits
    row_words: int
    row_capacity: int
    closed: int
    failing: str


def describe(
    cookie: int, uid: str, applicable: Applicable, reason: Reason | None, why: str
) -> PodGuard:
    """A pod's line; ``reason`` is why it is closed, None when its policies decide."""
    keys = applicable.policies.keys
    if reason is not None:
        if reason is Reason.WAITING:
            why = f"waiting for {', '.join(applicable.missing)}"
        return PodGuard(cookie, uid, GuardMode.REFUSE, reason, keys, applicable.missing, 0, why)
    mode = GuardMode.EVALUATE if keys else GuardMode.ALLOW
    return PodGuard(cookie, uid, mode, Reason.ALLOWED, keys, applicable.missing, 0)


def outside(cookie: int, uid: str, applicable: Applicable) -> PodGuard:
    """A pod on the host's network: it has no namespace, no interface and no address of its own."""
    why = "it uses the host's network: no policy is enforced"
    return describe(cookie, uid, applicable, None, "")._replace(mode=GuardMode.ALLOW, why=why)


def unknown(cookie: int, uid: str) -> PodGuard:
    """A pod whose workload the control plane does not know any more."""
    why = "the control plane does not know the workload"
    return PodGuard(cookie, uid, GuardMode.REFUSE, Reason.UNLISTED, (), (), 0, why)
