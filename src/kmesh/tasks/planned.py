"""``GET /debug/planned``: every row as the writer believes that it is in the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from kmesh.core.guard_differences import enforced
from kmesh.core.pictures import pictures
from kmesh.tasks.stream import endless, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.core.steer import Steering
    from kmesh.tasks.admin_context import Context


def pieces(steering: Steering) -> Iterator[bytes]:
    """``tables``: by table and key the value, both as hexadecimal digits (of an array the number of
    the first entry, and all that follow it; links are by the namespace's cookie); ``sets``: of each
    set of policies their fingerprints; ``settled``: whether no row was about to change."""
    guards = steering.guards
    sets = {str(id_): prints for id_, prints in enforced(guards).items()}
    head = {"settled": steering.idle() and guards.settled(), "sets": sets}
    yield orjson.dumps(head)[:-1] + b',\n"tables":{'
    for number, picture in enumerate(pictures(steering)):
        yield b'%s\n"%s":{' % (b"," if number else b"", picture.table.encode())
        comma = b""
        keys = iter(picture.keys())  # a copy, or made one by one
        for key in keys:
            value = picture.planned(key)
            if value is not None:
                yield comma + b'"%s":"%s"' % (key.hex().encode(), value.hex().encode())
                comma = b","
        yield b"}"
    yield b"}}\n"


def routes(context: Context) -> list[web.RouteDef]:
    """GET /debug/planned."""

    @endless
    async def planned(request: web.Request) -> web.StreamResponse:
        return await stream(request, pieces(context.steering))

    return [web.get("/debug/planned", planned)]
