"""What can be switched while running. The switches lie in the pinned map km_switch: the programs
read them there, and they outlive the agent.

Options say how switches are at first. A switch that was thrown later stays as it was left, also
over restarts, until the options themselves are changed: then they win.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.check import SEED, mix
from kmesh.abi.layout import Switch

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL = 1 << 16
MOST_AVOID = 3600  # seconds
# Bits of access_log. The programs ask for any, and for STEPS.
EMIT, LISTED_ONLY, STEPS, HELD = 1, 2, 4, 8
# Bits of kept: what is wanted, also while nothing is logged.
PROFILING, STEPS_WANTED, REFUSALS = 1, 2, 4
LEVELS = ("error", "warning", "info", "debug")


class Held(IntEnum):
    """What somebody reads although nothing is logged; the programs record no more than that."""

    NOTHING = 0
    REFUSALS = 1
    ALL = 2


class Settings(NamedTuple):
    """How everything is switched.

    ``authz``: policies are enforced; ``metrics``: connections are counted; ``access_log``: they
    are logged when they end, with ``steps`` also when they open and while they are open, except in
    the ``namespaces`` that say otherwise for their pods; ``sample``: percent of connections
    without an error that are logged; ``early_refusal``: a client on this node is refused where it
    dials; ``avoid``: seconds for which clients avoid an endpoint that did not take a connection,
    at first, 0 never; ``log_level``: of the programs' own log; ``profiling``: the kernel measures
    the programs' run time.
    """

    authz: bool = True
    metrics: bool = True
    access_log: bool = False
    steps: bool = False
    sample: float = 100.0
    early_refusal: bool = False
    avoid: float = 5.0
    log_level: str = "info"
    profiling: bool = False
    namespaces: Mapping[str, bool] = {}

    def logs(self, namespace: str) -> bool:
        """Whether connections of this namespace's pods are logged."""
        return self.namespaces.get(namespace, self.access_log)


def pack(
    settings: Settings, configured: int, held: Held = Held.NOTHING, deadline: int = 0
) -> bytes:
    """The row of km_switch. ``held`` is what somebody reads; ``deadline``: when the programs let
    go, in seconds of the monotonic clock, 0 never."""
    listed = any(settings.namespaces.values())
    bits = EMIT * (settings.access_log or listed) | HELD * (held is Held.ALL)
    if bits:
        bits |= LISTED_ONLY * (not settings.access_log) | STEPS * settings.steps
    # 0 means all: the least that can be asked for is one in 65,536.
    sample = 0 if settings.sample >= 100 else max(round(settings.sample * ALL / 100), 1)
    return Switch(
        authz_off=not settings.authz,
        metrics_off=not settings.metrics,
        access_log=bits,
        log_level=LEVELS.index(settings.log_level),
        sample=sample,
        early_refusal=settings.early_refusal,
        configured=configured,
        kept=PROFILING * settings.profiling
        | STEPS_WANTED * settings.steps
        | REFUSALS * (held is Held.REFUSALS),
        avoid_ms=round(settings.avoid * 1000),
        deadline=deadline,
    ).pack()


def unpack(raw: bytes, namespaces: Mapping[str, bool]) -> Settings:
    """What a row says; ``namespaces`` are kept elsewhere."""
    row = Switch.unpack(raw)
    return Settings(
        authz=not row.authz_off,
        metrics=not row.metrics_off,
        access_log=bool(row.access_log & EMIT) and not row.access_log & LISTED_ONLY,
        steps=bool(row.kept & STEPS_WANTED),
        sample=row.sample * 100 / ALL if row.sample else 100.0,
        early_refusal=bool(row.early_refusal),
        avoid=row.avoid_ms / 1000,
        log_level=LEVELS[min(row.log_level, len(LEVELS) - 1)],
        profiling=bool(row.kept & PROFILING),
        namespaces=dict(namespaces),
    )


def digest(settings: Settings) -> int:
    """Which options were in force: never 0, which a new map has."""
    sum_ = SEED
    for byte in repr(settings._replace(namespaces={})).encode():
        sum_ = mix(sum_, byte)
    return sum_ or 1


def start(raw: bytes, wanted: Settings, namespaces: Mapping[str, bool]) -> Settings:
    """The settings to begin with: those that are in force when the options are what they were,
    else what the options want. Namespaces have no option."""
    if Switch.unpack(raw).configured == digest(wanted):
        return unpack(raw, namespaces)
    return wanted._replace(namespaces=dict(namespaces))
