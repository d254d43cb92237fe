"""Dumps of what is wanted: upstream's ``/debug/config_dump``, ztunnel's ``/config_dump``, and the
resources themselves. Streamed: 100,000 workloads neither hold the loop nor are copied as a whole.

The header Kmesh-Revision tells the revision to ask with next time (``?since=``).
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from kmesh.core import columns
from kmesh.core.model import Authorization, Service, Workload
from kmesh.core.views import upstream_policy, upstream_service, upstream_workload
from kmesh.tasks.dump_rows import DumpRows, policy, shaped
from kmesh.tasks.filters import Asked, asked, last_part
from kmesh.tasks.listener import told
from kmesh.tasks.stream import endless, listed, stream
from kmesh.tasks.ztunnel_dump import ZtunnelDump
from kmesh.wire.dump import dump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmesh.core.model import Resource
    from kmesh.tasks.admin_context import Context

WRONG_MODE = b"\tInvalid Client Mode\n"
TABLES = (
    (Workload, ("NAME", "NAMESPACE", "ADDRESSES", "PROTOCOL", "STATUS")),
    (Service, ("NAME", "NAMESPACE", "HOSTNAME", "VIPS")),
    (Authorization, ("NAME", "NAMESPACE", "SCOPE", "ACTION")),
)


class Dumps:
    """The handlers, over what the stream holds."""

    def __init__(self, context: Context) -> None:
        self._rows = DumpRows(context.session)
        self.like_ztunnel = ZtunnelDump(context, self._rows)

    @endless
    async def dual_engine(self, request: web.Request) -> web.StreamResponse:
        """Upstream's shape."""
        return await self._show(request, self.upstream)

    @endless
    async def ztunnel(self, request: web.Request) -> web.StreamResponse:
        """ztunnel's shape."""
        shape = self.like_ztunnel
        found = await shape.open_connections(asked(request, self._rows.changes))
        return await self._show(request, lambda wanted: shape.pieces(wanted, found))

    @endless
    async def resources(self, request: web.Request) -> web.StreamResponse:
        """Name, version and bytes of every resource: what a bundle needs to answer questions."""
        return await self._show(request, self.raw)

    async def wrong_mode(self, _: web.Request) -> web.Response:
        """The other engine of upstream."""
        return web.Response(body=WRONG_MODE, status=400, content_type="text/plain")

    async def _show(
        self, request: web.Request, pieces: Callable[[Asked], Iterator[bytes]]
    ) -> web.StreamResponse:
        wanted = asked(request, self._rows.changes)
        headers = {"Kmesh-Revision": str(self._rows.changes.revision)}
        if wanted.table:
            return await stream(request, self.tables(wanted), "text/plain", headers)
        return await stream(request, pieces(wanted), headers=headers)

    def upstream(self, wanted: Asked) -> Iterator[bytes]:
        """Everything in upstream's shape, in pieces."""
        yield b"{"
        workloads = self._rows.made(Workload, wanted, shaped(upstream_workload), last_part)
        yield from listed("workloads", workloads, first=True)
        services = self._rows.made(Service, wanted, shaped(upstream_service), last_part)
        yield from listed("services", services)
        policies = self._rows.made(Authorization, wanted, policy(upstream_policy), last_part)
        yield from listed("policies", policies)
        yield from self._rows.gone(wanted)
        yield b"}\n"

    def raw(self, wanted: Asked) -> Iterator[bytes]:
        """Every resource as it came, in pieces."""

        def row(resource: Resource) -> bytes:
            raw = b64encode(resource.raw).decode()
            return orjson.dumps({"name": resource.name, "version": resource.version, "raw": raw})

        yield b"{"
        for key, kinds in (("address", (Workload, Service)), ("authorization", (Authorization,))):
            found = (
                None if resource is None else row(resource)
                for resource in self._rows.chosen(kinds, wanted)
            )
            yield from listed(key, found, first=key == "address")
        yield from self._rows.gone(wanted)
        yield b"}\n"

    def tables(self, wanted: Asked) -> Iterator[bytes]:
        """For people, in pieces."""
        for kind, header in TABLES:
            fields = [column.lower() for column in header]
            rows = (
                None if resource is None else list(map(shown(resource).get, fields))
                for resource in self._rows.chosen((kind,), wanted, last_part)
            )
            yield from columns.table(header, rows)
            yield b"\n"


def shown(resource: Resource) -> dict[str, Any]:
    """Upstream's object of any resource."""
    value = resource.value
    if isinstance(value, Authorization):
        return upstream_policy(value)
    found = dump(resource)
    return upstream_workload(found) if isinstance(value, Workload) else upstream_service(found)


def routes(context: Context) -> list[web.RouteDef]:
    """Dumps of what is wanted."""
    made = Dumps(context)
    return [
        told("/debug/config_dump/dual-engine", made.dual_engine),
        told("/debug/config_dump/kernel-native", made.wrong_mode),
        told("/debug/config_dump/bpf/kernel-native", made.wrong_mode),
        web.get("/config_dump", made.ztunnel),
        web.get("/debug/resources", made.resources),
    ]
