"""``GET /``: the page (kmesh.page) for whoever may read the admin API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from kmesh.page import page

if TYPE_CHECKING:
    from kmesh.tasks.admin_context import Context


async def show(_: web.Request) -> web.Response:
    """The document with its headers."""
    found = page()
    return web.Response(body=found.body, headers=found.headers)


def routes(_: Context | None = None) -> list[web.RouteDef]:
    """GET /."""
    return [web.get("/", show)]
