"""How pods are guarded, as dumps and metrics show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import GuardMode, Reason

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
    """Rows that the tables hold at most: values that sets name, peers, policies."""

    values: int = 1 << 17
    peers: int = 1 << 18
    policies: int = 1 << 14


class GuardStatistics(NamedTuple):
    """The state of authorization as the planner sees it."""

    started: bool
    policies: int
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
    keys = tuple(policy.key for policy in applicable.policies)
    if reason is not None:
        if reason is Reason.WAITING:
            why = f"waiting for {', '.join(applicable.missing)}"
        return PodGuard(cookie, uid, GuardMode.REFUSE, reason, keys, applicable.missing, 0, why)
    mode = GuardMode.EVALUATE if keys else GuardMode.ALLOW
    return PodGuard(cookie, uid, mode, Reason.ALLOWED, keys, applicable.missing, 0)


def unknown(cookie: int, uid: str) -> PodGuard:
    """A pod whose workload the control plane does not know any more."""
    why = "the control plane does not know the workload"
    return PodGuard(cookie, uid, GuardMode.REFUSE, Reason.UNLISTED, (), (), 0, why)
