"""``GET /``: the page (kmesh.page) for whoever may read the admin API."""

from __future__ import annotations

from aiohttp import web

from kmesh.page import page


async def show(_: web.Request) -> web.Response:
    """The document with its headers."""
    found = page()
    return web.Response(body=found.body, headers=found.headers)


def handlers() -> list[web.RouteDef]:
    """GET /."""
    return [web.get("/", show)]
