"""Is a pod really in the mesh? What was asked for, and what the kernel holds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.commands import ENROL, GUARD, LINK, OWN
from kmesh.core.own import row as own_row

if TYPE_CHECKING:
    from kmesh.core.steer import Steering
    from kmesh.core.tables import Tables


class Seen(NamedTuple):
    """Connections of a workload that the programs counted since the agent began to look, and when
    that last grew, in seconds of the clock that was given."""

    connections: int = 0
    last: float | None = None


class PodProof(NamedTuple):
    """``intended``: its workload is known; ``attached``: the program that guards it leads there;
    ``keyed``: its rows are as they should be; ``alive``: its namespace exists (None: cannot be
    told); ``why`` says what is missing. ``idle`` seconds have passed since a connection was seen.
    """

    cookie: int
    uid: str
    intended: bool
    attached: bool
    keyed: bool
    alive: bool | None
    connections: int
    idle: float | None
    why: str

    @property
    def broken(self) -> bool:
        """Whether something is missing that should be there."""
        return self.intended and self.alive is not False and not (self.attached and self.keyed)


def prove(
    steering: Steering, tables: Tables, cookie: int, alive: bool | None, seen: Seen, now: float
) -> PodProof:
    """Look at one enrolled pod; to be called between two batches of the writer."""
    uid = steering.pods.wanted.get(cookie, "")
    intended = uid in steering.store.workloads
    place = tables.row(LINK, cookie.to_bytes(8, "little"))
    attached = place is not None and place == steering.guards.places.of(cookie)
    missing = _missing(steering, tables, cookie)
    why = ""
    if not intended:
        why = "the control plane does not know its workload"
    elif alive is False:
        why = "its network namespace is gone"
    elif missing:
        why = f"the kernel does not hold its rows of {', '.join(missing)} as wanted"
    elif not attached:
        why = "no program guards its network namespace"
    idle = None if seen.last is None else max(now - seen.last, 0.0)
    return PodProof(
        cookie, uid, intended, attached, not missing, alive, seen.connections, idle, why
    )


def _missing(steering: Steering, tables: Tables, cookie: int) -> list[str]:
    """Tables that do not hold what a pod needs."""
    key, guards, pods = cookie.to_bytes(8, "little"), steering.guards, steering.pods
    row = pods.rows.get(cookie)
    uid = pods.wanted.get(cookie, "")
    found = []
    enrolled = row is not None and row.workload == steering.workload_ids.get(uid)
    if not enrolled or tables.row(ENROL, key) != pods.planned(ENROL, key):
        found.append(ENROL)
    addresses = guards.records.addresses(uid)
    if tables.row(OWN, key) != own_row(key, addresses):
        found.append(OWN)
    rows = [(guards.records.rows.get(addr), tables.row(GUARD, addr)) for addr in addresses]
    if any(planned is None or planned != actual for planned, actual in rows):
        found.append(GUARD)
    return found
