"""``GET /diff``: all in which the layers disagree, a JSON object a line, and a sum at last."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from kmesh.core.differences import Wanted, compare
from kmesh.core.events import ADDRESS, AUTHORIZATION
from kmesh.core.model import Service, Workload
from kmesh.tasks.filters import BadFilter, number
from kmesh.tasks.stream import endless, send
from kmesh.wire.held import passing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kmesh.tasks.admin_context import Context

LINES = "application/x-ndjson"
MOST = 10_000  # differences that are shown; all are counted


def routes(context: Context) -> list[web.RouteDef]:
    """GET /diff."""
    session, writer = context.session, context.writer
    address = passing(session.held(ADDRESS), Workload, Service)
    wanted = Wanted(address, session.held(AUTHORIZATION), session.refused, writer.waits)

    async def found(left: int) -> AsyncIterator[bytes]:
        """Lines as they are found; an empty one shows that it goes on."""
        steps = compare(context.steering, context.tables, wanted)
        looked, kinds = Counter[str](), Counter[str]()
        while (step := await writer.ask(lambda: next(steps, None))) is not None:
            looked[step.sort] += step.looked
            kinds.update(each.kind for each in step.found)
            lines = [orjson.dumps(each._asdict()) for each in step.found[:left]]
            left = max(left - len(step.found), 0)
            yield b"\n".join(lines) + b"\n"
        summed = {"differences": sum(kinds.values()), "kinds": kinds, "compared": looked}
        yield orjson.dumps(summed) + b"\n"

    @endless
    async def diff(request: web.Request) -> web.StreamResponse:
        for name in request.query:
            if name != "limit":
                raise BadFilter(f"there is no filter {name!r}", "As GET /diff?limit=100.")
        left = number("limit", request.query.get("limit", str(MOST)))
        return await send(request, found(left), LINES)

    return [web.get("/diff", diff)]
