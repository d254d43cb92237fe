"""GET and POST /switches: every switch by its name, as one JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from kmesh.tasks.pods import answer, content
from kmesh.tasks.switches import SwitchError

if TYPE_CHECKING:
    from kmesh.core.events import Json
    from kmesh.tasks.admin_context import Context


def routes(context: Context) -> list[web.RouteDef]:
    """``profiling``, the only one that does not survive a restart, is among them."""

    def shown() -> dict[str, Json]:
        found = context.switches.settings._asdict()
        return {**found, "namespaces": dict(found["namespaces"]), "profiling": context.run_time.on}

    async def show(_: web.Request) -> web.Response:
        return answer(shown())

    async def change(request: web.Request) -> web.Response:
        wanted = await content(request)
        profiling = wanted.pop("profiling", context.run_time.on)
        if not isinstance(profiling, bool):
            raise SwitchError(f"profiling is true or false, not {profiling!r}")
        await context.switches.change(**wanted)
        context.run_time.switch(profiling)
        return answer(shown())

    return [web.get("/switches", show), web.post("/switches", change)]
