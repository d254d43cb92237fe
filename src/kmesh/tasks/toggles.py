"""Upstream's switches over HTTP, with its paths, methods and parameters, and a GET for each.

``POST /accesslog?enable=true``: values are those of Go's ParseBool. This build's switches are
fewer: /workload_metrics and /monitoring are both the counting of connections, /connection_metrics
is reports of connections while they are open; /monitoring throws all of them together, as upstream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from kmesh.errors import KmeshError
from kmesh.tasks.problems import answer, content

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kmesh.core.switches import Settings
    from kmesh.tasks.admin_context import Context

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
FOLLOW = "default"


class ToggleError(KmeshError):
    """A switch cannot be thrown like that."""

    code = "KM1716"
    next_step = "As POST /accesslog?enable=true; GET tells how it is."


PATHS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "/accesslog": ("accesslog", ("access_log",), "accesslog"),
    "/workload_metrics": ("accesslog", ("metrics",), "workload metrics"),
    "/connection_metrics": ("accesslog", ("steps",), "connection metrics"),
    "/monitoring": ("monitoring", ("metrics", "access_log", "steps"), ""),
    "/authz": ("authz", ("authz",), ""),
}
"""Path to the word of upstream's complaint, the switches, and what needs monitoring to be on."""


class Toggles:
    """The handlers, over the switchboard."""

    def __init__(self, context: Context) -> None:
        self._board = context.switches

    def show(self, path: str) -> Handler:
        """``{"enable": true}``."""
        _, names, _ = PATHS[path]

        async def handle(_: web.Request) -> web.Response:
            settings: Settings = self._board.settings
            found: dict[str, Any] = {"enable": getattr(settings, names[0])}
            if path == "/accesslog":
                found["namespaces"] = dict(settings.namespaces)
            return answer(found)

        return handle

    def throw(self, path: str) -> Handler:
        """``?enable=``; for /accesslog also ``?namespace=`` with ``enable=default`` to follow the
        others again."""
        word, names, needs = PATHS[path]

        async def handle(request: web.Request) -> web.Response:
            raw = request.query.get("enable", "")
            namespace = request.query.get("namespace", "")
            if namespace and path == "/accesslog":
                await self._one_namespace(namespace, raw, word)
                return web.Response()
            on = parsed(raw, word)
            if on and needs and needs != "workload metrics" and not self._board.settings.metrics:
                raise ToggleError(
                    f"Kmesh monitoring is disabled, cannot enable {needs}.",
                    "POST /monitoring?enable=true, or kmeshctl monitoring --all enable.",
                )
            await self._board.change(**dict.fromkeys(names, on))
            return web.Response()

        return handle

    async def switches(self, _: web.Request) -> web.Response:
        """GET /switches: every switch of this build."""
        return answer(self._settings())

    async def change(self, request: web.Request) -> web.Response:
        """POST /switches with the switches that shall change; tells how all of them are then."""
        await self._board.change(**await content(request))
        return answer(self._settings())

    async def _one_namespace(self, namespace: str, raw: str, word: str) -> None:
        listed = dict(self._board.settings.namespaces)
        if raw == FOLLOW:
            listed.pop(namespace, None)
        else:
            listed[namespace] = parsed(raw, word)
        await self._board.change(namespaces=listed)

    def _settings(self) -> dict[str, Any]:
        settings: Settings = self._board.settings
        return {**settings._asdict(), "namespaces": dict(settings.namespaces)}


def parsed(raw: str, word: str) -> bool:
    """Go's ParseBool; raises ToggleError with upstream's words."""
    if raw in TRUE:
        return True
    if raw in FALSE:
        return False
    raise ToggleError(f"invalid {word} enable={raw}")


def routes(context: Context) -> list[web.RouteDef]:
    """Upstream's switches, and all of this build at /switches."""
    made = Toggles(context)
    found = [web.get("/switches", made.switches), web.post("/switches", made.change)]
    for path in PATHS:
        found += [web.get(path, made.show(path)), web.post(path, made.throw(path))]
    return found
