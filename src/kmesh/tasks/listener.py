"""An HTTP listener for machines outside: bounded, and tried again while its address is taken."""

from __future__ import annotations

import logging
from asyncio import get_running_loop
from typing import TYPE_CHECKING

import anyio
from aiohttp import web

from kmesh.tasks.gate import Gate, GateStatistics

if TYPE_CHECKING:
    from asyncio import Server
    from collections.abc import Awaitable, Callable, Iterable

    from kmesh.core.options import Listen

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 64
IDLE = 30.0  # seconds for a head: servers that scrape keep their connections
HEAD_BYTES = 8190
MOST_BYTES = 4096
AGAIN = 5.0
LAST_ANSWERS = 1.0


class Listener:
    """Serves ``routes`` at ``address``; ``what`` names it in the log. The mesh goes on without: a
    restart would take more away than this listener."""

    def __init__(self, what: str, address: Listen, routes: Iterable[web.RouteDef]) -> None:
        self.listening = ""
        self._what, self._address, self._routes = what, address, list(routes)
        self._gate: Gate | None = None

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled."""
        app = web.Application(middlewares=[self._clocked], client_max_size=MOST_BYTES)
        app.add_routes(self._routes)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=LAST_ANSWERS, keepalive_timeout=IDLE,
            max_line_size=HEAD_BYTES, max_field_size=HEAD_BYTES,
        )  # fmt: skip
        await runner.setup()
        assert runner.server is not None
        self._gate = Gate(runner.server, MOST_CONNECTIONS, IDLE)
        server: Server | None = None
        try:
            server = await self._listen(self._gate)
            task_status.started()
            while server is None:
                await anyio.sleep(AGAIN)
                server = await self._listen(self._gate)
            await anyio.sleep_forever()
        finally:
            self.listening = ""
            if server is not None:
                server.close()
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    def statistics(self) -> GateStatistics:
        """For metrics and dumps."""
        return self._gate.statistics() if self._gate else GateStatistics(0, 0, 0, 0)

    async def _listen(self, gate: Gate) -> Server | None:
        host, port = self._address
        try:
            server = await get_running_loop().create_server(gate, host or None, port, backlog=64)
        except OSError as error:
            reason = error.strerror or str(error)
            log.warning("no %s at %s: %s; trying again", self._what, self._address, reason)
            return None
        bound = server.sockets[0].getsockname()
        self.listening = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"
        log.info("%s at http://%s", self._what, self.listening)
        return server

    @web.middleware
    async def _clocked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The head is whole: from here on the handler has its own deadline."""
        assert self._gate is not None
        transport = request.transport
        self._gate.begun(transport)
        try:
            return await handler(request)
        finally:
            self._gate.ended(transport)
