"""The admin API over TCP: what the Unix socket serves besides enrolment, for tools and the page.

It listens on loopback unless told otherwise. Anything on this machine may ask; a web page that a
browser shows must not: the name that it asked for must be an address or localhost (DNS rebinding),
and what comes from another origin is refused (CSRF). Bodies, heads, connections and the time of a
request are bounded.
"""

from __future__ import annotations

import logging
import re
from asyncio import get_running_loop
from ipaddress import ip_address
from typing import TYPE_CHECKING

import anyio
from aiohttp import web

from kmesh.errors import KmeshError
from kmesh.tasks import dumps, events, inside, kernel_dump, page, toggles, top, why
from kmesh.tasks.gate import Gate, GateStatistics
from kmesh.tasks.pods import LAST_ANSWERS, MOST_BYTES, answer, problems
from kmesh.tasks.stream import endless as endless

if TYPE_CHECKING:
    from asyncio import Server
    from collections.abc import Awaitable, Callable, Iterable

    from kmesh.core.options import Listen
    from kmesh.tasks.admin_context import Context

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)

ROUTES: tuple[Callable[[Context], list[web.RouteDef]], ...] = (
    page.routes, top.routes, events.routes, dumps.routes, kernel_dump.routes, inside.routes,
    toggles.routes, why.routes,
)  # fmt: skip
"""Every part's routes; a part adds its function here."""
MOST_CONNECTIONS = 128
HEAD_WITHIN = 10.0
ANSWER_WITHIN = 60.0
AGAIN = 5.0
HEAD_BYTES = 8190
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z.-]+))(?::[0-9]{1,5})?")
LOCAL = ("127.0.0.1", "::1")


class RequestRefused(KmeshError):
    """A request that no tool of ours would make."""

    code = "KM1601"
    next_step = "Ask by an address or localhost, and not from a page of another origin."


class AnswerTimeout(KmeshError):
    """A question that took too long."""

    code = "KM1602"
    next_step = "Ask for less with limit, or when the agent has less to do."


def routes(context: Context) -> list[web.RouteDef]:
    """Everything that the parts serve, for the Unix socket and for TCP."""
    return [route for part in ROUTES for route in part(context)]


class AdminServer:
    """Serves routes at an address; one that is taken is tried again and again."""

    def __init__(self, address: Listen, found: Iterable[web.RouteDef]) -> None:
        self.listening: list[str] = []
        self._address, self._routes = address, list(found)
        self._gate: Gate | None = None

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled."""
        middlewares = [problems, self._bounded, guard]
        app = web.Application(middlewares=middlewares, client_max_size=MOST_BYTES)
        app.add_routes(self._routes)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=LAST_ANSWERS, keepalive_timeout=HEAD_WITHIN,
            max_line_size=HEAD_BYTES, max_field_size=HEAD_BYTES,
        )  # fmt: skip
        await runner.setup()
        assert runner.server is not None
        self._gate = Gate(runner.server, MOST_CONNECTIONS, HEAD_WITHIN)
        servers: list[Server] = []
        try:
            servers = await self._listen(self._gate)
            task_status.started()
            while not servers:
                await anyio.sleep(AGAIN)
                servers = await self._listen(self._gate)
            await anyio.sleep_forever()
        finally:
            self.listening = []
            for server in servers:
                server.close()
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    async def _listen(self, gate: Gate) -> list[Server]:
        """Of localhost both families, as far as the machine has them."""
        host, port = self._address
        names = LOCAL if host == "localhost" else (host or None,)
        servers: list[Server] = []
        for name in names:
            try:
                made = await get_running_loop().create_server(gate, name, port, backlog=64)
            except OSError as error:
                reason = error.strerror or str(error)
                log.warning("no admin API at %s port %d: %s", name or "*", port, reason)
                continue
            servers.append(made)
            self.listening += [at(each.getsockname()) for each in made.sockets]
        if servers:
            log.info("admin API at %s", ", ".join(f"http://{each}" for each in self.listening))
        return servers

    @web.middleware
    async def _bounded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A request's time, once its head is whole."""
        assert self._gate is not None
        transport = request.transport
        self._gate.begun(transport)
        try:
            if getattr(request.match_info.handler, "endless", False):
                return await handler(request)
            with anyio.fail_after(ANSWER_WITHIN):
                return await handler(request)
        except TimeoutError:
            return problem(AnswerTimeout(f"no answer within {ANSWER_WITHIN:g} seconds"), 503)
        finally:
            self._gate.ended(transport)

    def statistics(self) -> GateStatistics:
        """For metrics and dumps."""
        return self._gate.statistics() if self._gate else GateStatistics(0, 0, 0, 0)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Only callers that cannot be somebody else's page."""
    refusal = refused(request.method, request.headers.get("Host", ""), request.headers)
    if refusal:
        return problem(RequestRefused(refusal), 403)
    response = await handler(request)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def problem(error: KmeshError, status: int) -> web.Response:
    """An error as JSON."""
    said = {"code": error.code, "error": error.sentence, "next_step": error.next_step}
    return answer(said, status)


def refused(method: str, host: str, headers: object) -> str:
    """Why a request is refused; empty when it is not."""
    get = headers.get  # type: ignore[attr-defined]
    if not trusted(host):
        return f"the host {host!r} is neither an address nor localhost"
    origin = get("Origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return f"the request comes from a page of {origin!r}"
    site = get("Sec-Fetch-Site", "none")
    if site in ("none", "same-origin"):
        return ""
    if method in SAFE and get("Sec-Fetch-Mode") == "navigate":
        return ""  # a link that somebody followed
    return f"the request comes from a {site} page"


def trusted(host: str) -> bool:
    """Whether a Host header cannot be a name that somebody else resolves."""
    found = HOST.fullmatch(host)
    if found is None:
        return False
    name = (found["v6"] or found["name"]).lower()
    if name == "localhost":
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def at(name: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """``host:port`` of a socket's name."""
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
