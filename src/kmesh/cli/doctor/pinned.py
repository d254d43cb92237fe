"""What an agent has left in the kernel, seen without touching it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kmesh.abi.layout import FINGERPRINT, SWITCH_SIZE, Switch
from kmesh.bpf import carry, lib, loader, mounts, pins
from kmesh.bpf.objects import META
from kmesh.bpf.sizes import Sizes
from kmesh.core.verdicts import INFO, OK, WARNING, Verdict
from kmesh.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM = "System"
NAME = "pins"


def found(bpffs: str) -> Iterator[Verdict]:
    """What an agent has pinned, whether this version can take it over, and whether the programs
    have let go."""
    root = f"{bpffs}/kmesh"
    try:
        if not mounts.exists(root):
            yield Verdict(SYSTEM, NAME, INFO, f"none below {root}: no agent has run yet")
            return
        maps = pins.opened(root)
        try:
            yield _layout(root, maps)
            yield from _dead_man(maps)
        finally:
            loader.close(maps.values())
    except OSError as error:
        yield Verdict(SYSTEM, NAME, WARNING, f"{root}: {error.strerror}")
    except BpfError as error:
        means = "What is pinned was made by another version."
        yield Verdict(SYSTEM, NAME, WARNING, error.sentence, means, error.next_step)


def _layout(root: str, maps: Mapping[str, int]) -> Verdict:
    plan = carry.plan(maps, Sizes())
    if plan.foreign:
        return Verdict(SYSTEM, NAME, OK, f"{root}: of another build: {carry.described(plan)}")
    return Verdict(SYSTEM, NAME, OK, f"{root}: of the layout of this version")


def _dead_man(maps: Mapping[str, int]) -> Iterator[Verdict]:
    if carry.fingerprint(maps.get(META)) != FINGERPRINT:
        return
    raw = lib.lookup(maps["km_switch"], bytes(4), SWITCH_SIZE) if "km_switch" in maps else None
    row = Switch.unpack(raw or bytes(SWITCH_SIZE))
    left = row.deadline - time.monotonic()
    if row.deadline and left <= 0:
        yield Verdict(
            SYSTEM, "dead man", WARNING, f"the programs let go {-left:.0f} s ago",
            "No agent was here for longer than --dead-man: services are not steered and policies "
            "not enforced.",
            "Start the agent; `kmesh uninstall` if it shall not come back.",
        )  # fmt: skip
    elif row.deadline:
        yield Verdict(
            SYSTEM, "dead man", OK, f"the programs let go in {left:.0f} s without an agent"
        )
