"""A disagreement of two layers, for ``kmesh diff``."""

from __future__ import annotations

from typing import NamedTuple

from kmesh.core.audit import Kind

XDS, DESIRED, PLANNED, KERNEL = "xds", "desired", "planned", "kernel"
LAYERS = (XDS, DESIRED, PLANNED, KERNEL)
REJECTED, WAITING, FAILING, CLOSED = "rejected", "waiting", "failing", "closed"
KINDS = (*map(str, Kind), REJECTED, WAITING, FAILING, CLOSED)
RESOURCES, FRONTENDS, PODS, POLICIES, ROWS = "resources", "addresses", "pods", "policies", "rows"
NOT_YET = "the writer has not come to it yet"


class Apart(NamedTuple):
    """Two neighbouring layers disagree about ``what`` of a table, of the resources, or of the
    policies of a pod; ``kind`` is how the second differs from the first."""

    first: str
    second: str
    table: str
    what: str
    kind: str
    why: str = ""


class Step(NamedTuple):
    """One slice: ``looked`` things of a sort were compared."""

    sort: str
    looked: int
    found: list[Apart]


def how(first: object, second: object) -> Kind:
    """How the second of two unequal things differs from the first; None is no thing."""
    if second is None:
        return Kind.MISSING
    return Kind.UNPLANNED if first is None else Kind.ALTERED
