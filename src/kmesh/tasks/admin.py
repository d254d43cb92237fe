"""The admin API: what its parts serve, at the Unix socket besides enrolment and at the address for
tools and the page.

It listens on loopback unless told otherwise; who may ask there is in ``listener``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.tasks import (
    audit,
    avoid,
    diff,
    dumps,
    events,
    inside,
    kernel_dump,
    kernel_objects,
    page,
    planned,
    sampling,
    toggles,
    top,
    why,
)
from kmesh.tasks.listener import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from kmesh.tasks.admin_context import Context

ROUTES: tuple[Callable[[Context], list[web.RouteDef]], ...] = (
    page.routes, top.routes, events.routes, dumps.routes, kernel_dump.routes,
    kernel_objects.routes, inside.routes, sampling.routes, toggles.routes, why.routes,
    avoid.routes, audit.routes, diff.routes, planned.routes,
)  # fmt: skip
"""Every part's routes; a part adds its function here."""
LIMITS = Limits(connections=128, head=10.0, body=64 << 10, named=False)


def routes(context: Context) -> list[web.RouteDef]:
    """Everything that the parts serve, for the Unix socket and for TCP."""
    return [route for part in ROUTES for route in part(context)]
