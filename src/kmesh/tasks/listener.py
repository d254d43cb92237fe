"""An HTTP listener: bounded in everything, its errors JSON, tried again while its address is taken.

Anything on this machine may ask; a web page that a browser shows must not: what comes from another
origin is refused (CSRF), and where ``named`` is False the name that was asked for must be an
address or localhost (DNS rebinding).
"""

from __future__ import annotations

import logging
import re
from asyncio import get_running_loop
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

import anyio
from aiohttp import web

from kmesh.errors import KmeshError
from kmesh.tasks.gate import ANSWER, GATE, ORIGIN, REASONS, Gate, GateStatistics
from kmesh.tasks.problems import Protocol, problem, problems, safe

if TYPE_CHECKING:
    from asyncio import Server
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from kmesh.core.options import Listen

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)

HEAD_BYTES = 8190
AGAIN = 5.0  # seconds between two tries to have an address
LAST_ANSWERS = 1.0  # seconds for what is being answered when the agent ends
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z.-]+))(?::[0-9]{1,5})?")
LOCAL = ("127.0.0.1", "::1")
NOTHING = GateStatistics(0, 0, dict.fromkeys(REASONS, 0))


class RequestRefused(KmeshError):
    """A request that no tool of ours would make."""

    code = "KM1601"
    next_step = "Ask by an address or localhost, and not from a page of another origin."


class AnswerTimeout(KmeshError):
    """A question that took too long."""

    code = "KM1602"
    next_step = "Ask for less with limit, or when the agent has less to do."


class Limits(NamedTuple):
    """``connections`` at once, ``head`` seconds for a request's head, ``answer`` seconds for its
    answer (handlers that are marked endless bound themselves), ``body`` bytes; ``named``: it may be
    asked by any name; ``anywhere``: by anybody who can connect, also for a page's sake."""

    connections: int = 64
    head: float = 30.0  # servers that scrape keep their connections
    answer: float = 60.0
    body: int = 4096
    named: bool = True
    anywhere: bool = False


@asynccontextmanager
async def serving(routes: Iterable[web.RouteDef], limits: Limits) -> AsyncIterator[Gate]:
    """A gate in front of an application of these routes, until the block ends."""
    gate = Gate(limits.connections, limits.head)

    @web.middleware
    async def bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        gate.begun(transport)
        try:
            return await _answered(request, handler, limits.answer, gate)
        finally:
            gate.ended(transport)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        why = "" if limits.anywhere else refused(request.method, request.headers, limits.named)
        if why:
            gate.turned[ORIGIN] += 1
            return problem(RequestRefused(why), 403)
        return await handler(request)

    app = web.Application(middlewares=[problems, bounded, guard], client_max_size=limits.body)
    app.on_response_prepare.append(safe)
    app.add_routes(routes)
    app[GATE] = gate
    runner = web.AppRunner(app, shutdown_timeout=LAST_ANSWERS)
    await runner.setup()
    assert runner.server is not None
    gate.inner = partial(
        Protocol, gate, runner.server, loop=get_running_loop(), access_log=None,
        keepalive_timeout=limits.head, max_line_size=HEAD_BYTES, max_field_size=HEAD_BYTES,
    )  # fmt: skip
    try:
        yield gate
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


async def _answered(
    request: web.Request, handler: Handler, within: float, gate: Gate
) -> web.StreamResponse:
    if getattr(request.match_info.handler, "endless", False):
        return await handler(request)
    try:
        with anyio.fail_after(within):
            return await handler(request)
    except TimeoutError:
        gate.turned[ANSWER] += 1
        return problem(AnswerTimeout(f"no answer within {within:g} seconds"), 503)


class Listener:
    """Serves ``routes`` at ``address``; ``what`` names it in the log. The mesh goes on without: a
    restart would take more away than this listener."""

    def __init__(
        self,
        what: str,
        address: Listen,
        routes: Iterable[web.RouteDef],
        limits: Limits | None = None,
    ) -> None:
        self.listening: list[str] = []
        self._what, self._address, self._routes = what, address, list(routes)
        self._limits = limits or Limits()
        self._gate: Gate | None = None

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled."""
        async with serving(self._routes, self._limits) as gate:
            self._gate = gate
            servers: list[Server] = []
            try:
                servers = await self._listen(gate)
                task_status.started()
                while not servers:
                    await anyio.sleep(AGAIN)
                    servers = await self._listen(gate)
                await anyio.sleep_forever()
            finally:
                self.listening = []
                for server in servers:
                    server.close()

    def statistics(self) -> GateStatistics:
        """For metrics and dumps."""
        return self._gate.statistics() if self._gate else NOTHING

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
                log.warning("no %s at %s port %d: %s", self._what, name or "*", port, reason)
                continue
            servers.append(made)
            self.listening += [at(each.getsockname()) for each in made.sockets]
        if servers:
            log.info("%s at %s", self._what, ", ".join(f"http://{at}" for at in self.listening))
        return servers


def told(path: str, handler: Handler) -> web.RouteDef:
    """A path of upstream's that changes nothing: as there, any method asks (kmesh-contract 7)."""
    return web.route("*", path, handler)


def refused(method: str, headers: Mapping[str, str], named: bool) -> str:
    """Why a request is refused; empty when it is not."""
    host = headers.get("Host", "")
    if not named and not trusted(host):
        return f"the host {host!r} is neither an address nor localhost"
    origin = headers.get("Origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return f"the request comes from a page of {origin!r}"
    site = headers.get("Sec-Fetch-Site", "none")
    if site in ("none", "same-origin"):
        return ""
    if method in SAFE and headers.get("Sec-Fetch-Mode") == "navigate":
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
