"""``GET /avoid``: the endpoints that clients of this node avoid now, with names."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from kmesh.abi.layout import AVOIDING_SIZE
from kmesh.bpf import lib
from kmesh.core import addr
from kmesh.core.avoid import in_force
from kmesh.tasks.problems import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.bpf.load import DataPlane
    from kmesh.core.avoid import Avoided
    from kmesh.core.labels import Labels
    from kmesh.tasks.admin_context import Context


class AvoidList:
    """Reads km_avoid, which the programs alone write."""

    def __init__(
        self, plane: DataPlane, labels: Labels, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._plane, self._labels, self._clock = plane, labels, clock

    def now(self) -> list[Avoided]:
        """What is avoided now. Raises BpfError."""
        maps = self._plane.maps
        avoiding = lib.lookup(maps["km_avoiding"], bytes(4), AVOIDING_SIZE)
        rows = lib.rows(maps["km_avoid"])
        return list(in_force(rows, avoiding or bytes(AVOIDING_SIZE), self._clock()))

    def shown(self, client: str | None = None) -> list[dict[str, Any]]:
        """The same with names, of one client (a workload's uid) or of all."""
        rows = [self._shape(each) for each in self.now()]
        return [row for row in rows if client is None or row["client"] == client]

    def _shape(self, each: Avoided) -> dict[str, Any]:
        return {
            "client": self._labels.uid(each.client),
            "workload": self._labels.owner(each.addr),
            "address": addr.text(each.addr),
            "port": each.port,
            "service": self._labels.service_key(each.service),
            "failures": each.failures,
            "seconds": round(each.seconds, 3),
        }


def routes(context: Context) -> list[web.RouteDef]:
    """GET /avoid."""
    avoided = AvoidList(context.plane, context.labels)

    async def show(_: web.Request) -> web.Response:
        rows = await context.writer.ask(avoided.shown)
        settings = context.switches.settings
        return answer({"seconds": settings.avoid, "endpoints": rows})

    return [web.get("/avoid", show)]
