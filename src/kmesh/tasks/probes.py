"""Probes for the kubelet: whether the agent is ready, and whether it lives.

Ready means that connections of this node's pods are steered and guarded as somebody wanted: by a
mesh that is in sync, or, while the control plane is away, by the last one that was. The words of
``not ready`` are ztunnel's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from aiohttp import web

if TYPE_CHECKING:
    from kmesh.core.delta import Session
    from kmesh.tasks.writer import Writer
    from kmesh.tasks.xds import XdsClient

READY_WITHIN, LIVE_WITHIN = 1.0, 10.0


class Probes:
    """Handlers of /healthz/ready and /healthz/live; a client that may be None has no control
    plane."""

    def __init__(self, writer: Writer, session: Session, xds: XdsClient | None) -> None:
        self._writer, self._session, self._xds = writer, session, xds

    def routes(self) -> list[web.RouteDef]:
        """For a listener."""
        return [web.get("/healthz/ready", self._ready), web.get("/healthz/live", self._live)]

    async def _ready(self, _: web.Request) -> web.Response:
        pending = []
        if not await self._turns(READY_WITHIN):
            pending.append("writer")
        source = self._source()
        if not source:
            pending.append("control plane")
        if pending:
            text = f"not ready, pending: {', '.join(pending)}\n"
            return web.Response(text=text, status=500)
        return web.Response(text=f"ready: {source}\n")

    async def _live(self, _: web.Request) -> web.Response:
        if await self._turns(LIVE_WITHIN):
            return web.Response(text="alive\n")
        return web.Response(text="the writer does not turn\n", status=500)

    async def _turns(self, within: float) -> bool:
        """Whether the writer gets to the end of a batch. Growing a big table takes it seconds."""
        with anyio.move_on_after(within):
            await self._writer.ask(lambda: None)
            return True
        return False

    def _source(self) -> str:
        """By which mesh the kernel works; empty when there has never been one."""
        steering = self._writer.steering
        if steering.started and self._session.synced:
            return "in sync with the control plane"
        records = len(steering.planner.records)
        if steering.started or records:
            return f"from cache, {records} records; the control plane is away"
        return "without a control plane, as configured" if self._xds is None else ""
