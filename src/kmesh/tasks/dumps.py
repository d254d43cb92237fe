"""Dumps of what is wanted: upstream's ``/debug/config_dump``, ztunnel's ``/config_dump``, and the
resources themselves. Streamed: 100,000 workloads neither hold the loop nor are copied as a whole.

The header Kmesh-Revision tells the revision to ask with next time (``?since=``).
"""

from __future__ import annotations

from base64 import b64encode
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import orjson
from aiohttp import web

from kmesh import __version__
from kmesh.bpf.connections import connections
from kmesh.core import columns
from kmesh.core.addr import host_port
from kmesh.core.changes import each
from kmesh.core.config_view import settings
from kmesh.core.endpoints import HEALTHY
from kmesh.core.events import ADDRESS, AUTHORIZATION
from kmesh.core.model import Authorization, Service, Workload
from kmesh.core.views import (
    upstream_policy,
    upstream_service,
    upstream_workload,
    ztunnel_policy,
)
from kmesh.errors import BpfError
from kmesh.tasks.filters import Asked, asked, chosen, last_part
from kmesh.tasks.listener import told
from kmesh.tasks.stream import More, endless, in_order, listed, stream
from kmesh.wire.dump import dump
from kmesh.wire.held import passing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kmesh.bpf.load import DataPlane
    from kmesh.core.model import Membership, Resource
    from kmesh.tasks.admin_context import Context

    Rows = Iterator[bytes | None]

WRONG_MODE = b"\tInvalid Client Mode\n"
NO_CONNECTIONS = b'{"inbound":[],"outbound":[]}'
AT_ONCE = 32  # endpoints of a service in one piece
TABLES = (
    (Workload, ("NAME", "NAMESPACE", "ADDRESSES", "PROTOCOL", "STATUS")),
    (Service, ("NAME", "NAMESPACE", "HOSTNAME", "VIPS")),
    (Authorization, ("NAME", "NAMESPACE", "SCOPE", "ACTION")),
)


class Dumps:
    """The handlers, over what the stream holds."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._address = context.session.held(ADDRESS)
        self._policies = context.session.held(AUTHORIZATION)
        self._changes = context.session.changes

    @endless
    async def dual_engine(self, request: web.Request) -> web.StreamResponse:
        """Upstream's shape."""
        return await self._show(request, self.upstream)

    @endless
    async def ztunnel(self, request: web.Request) -> web.StreamResponse:
        """ztunnel's shape, which ``istioctl ztunnel-config`` reads."""
        pods = self._pods(asked(request, self._changes))
        found = {uid: await shown_connections(self._context.plane, pods[uid]) for uid in pods}
        return await self._show(request, lambda wanted: self.like_ztunnel(wanted, found))

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
        wanted = asked(request, self._changes)
        headers = {"Kmesh-Revision": str(self._changes.revision)}
        if wanted.table:
            return await stream(request, self.tables(wanted), "text/plain", headers)
        return await stream(request, pieces(wanted), headers=headers)

    def upstream(self, wanted: Asked) -> Iterator[bytes]:
        """Everything in upstream's shape, in pieces."""
        yield b"{"
        workloads = self._rows(Workload, wanted, _made(upstream_workload), last_part)
        yield from listed("workloads", workloads, first=True)
        services = self._rows(Service, wanted, _made(upstream_service), last_part)
        yield from listed("services", services)
        policies = self._rows(Authorization, wanted, _policy(upstream_policy), last_part)
        yield from listed("policies", policies)
        yield from self._gone(wanted)
        yield b"}\n"

    def like_ztunnel(
        self, wanted: Asked, open_: Mapping[str, bytes] = MappingProxyType({})
    ) -> Iterator[bytes]:
        """Everything in ztunnel's shape, in pieces; ``open_`` are the connections of each pod."""
        yield b"{"
        workloads = self._rows(Workload, wanted, _made(lambda found: found))
        yield from listed("workloads", workloads, first=True)
        yield from listed("services", self._services(wanted))
        policies = self._rows(Authorization, wanted, _policy(ztunnel_policy))
        yield from listed("policies", policies)
        yield from self._gone(wanted)
        rest = {
            "stagedServices": {},
            "certificates": [],
            "version": {"version": __version__},
            "config": settings(self._context.config),
        }
        yield b",\n" + orjson.dumps(rest)[1:-1] + b',\n"workloadState":{'
        comma = b""
        for uid, cookie in self._pods(wanted).items():
            head = orjson.dumps(self._pod(cookie, uid))[:-1] + b',"connections":'
            yield comma + orjson.dumps(uid) + b":" + head
            yield open_.get(uid, NO_CONNECTIONS) + b"}"
            comma = b",\n"
        yield b"}}\n"

    def raw(self, wanted: Asked) -> Iterator[bytes]:
        """Every resource as it came, in pieces."""

        def row(resource: Resource) -> bytes:
            raw = b64encode(resource.raw).decode()
            return orjson.dumps({"name": resource.name, "version": resource.version, "raw": raw})

        yield b"{"
        for key, kinds in (("address", (Workload, Service)), ("authorization", (Authorization,))):
            found = (
                None if resource is None else row(resource)
                for resource in chosen(self._held(*kinds), kinds, wanted)
            )
            yield from listed(key, found, first=key == "address")
        yield from self._gone(wanted)
        yield b"}\n"

    def tables(self, wanted: Asked) -> Iterator[bytes]:
        """For people, in pieces."""
        for kind, header in TABLES:
            fields = [column.lower() for column in header]
            rows = (
                None if resource is None else list(map(shown(resource).get, fields))
                for resource in chosen(self._held(kind), (kind,), wanted, last_part)
            )
            yield from columns.table(header, rows)
            yield b"\n"

    def _held(self, *kinds: type) -> Mapping[str, Resource]:
        held = self._policies if kinds == (Authorization,) else self._address
        return passing(held, *kinds)

    def _rows(
        self,
        kind: type,
        wanted: Asked,
        render: Callable[[Resource], bytes],
        by: Callable[[str], str] | None = None,
    ) -> Rows:
        for resource in chosen(self._held(kind), (kind,), wanted, by):
            yield None if resource is None else render(resource)

    def _services(self, wanted: Asked) -> Rows:
        """A service and its endpoints, some at a time: one may have all workloads."""
        for resource in chosen(self._held(Service), (Service,), wanted, last_part):
            if resource is None:
                yield None
                continue
            members = self._context.writer.steering.store.members.get(resource.name, {})
            yield orjson.dumps(dump(resource))[:-1] + b',"endpoints":{'
            rows, comma = each(members.items()), b""
            while some := list(islice(rows, AT_ONCE)):
                found = {
                    uid: _endpoint(uid, member, bool(row.traits & HEALTHY))
                    for uid, row in some
                    for member in row.memberships
                    if member.service == resource.name
                }
                if found:
                    yield More(comma + orjson.dumps(found)[1:-1])
                    comma = b","
            yield More(b"}}")

    def _gone(self, wanted: Asked) -> Iterator[bytes]:
        """Names that changed and are not held any more."""
        if wanted.names is not None:
            gone = (
                None if name is None or self._has(name) else orjson.dumps(name)
                for name in in_order(wanted.names)
            )
            yield from listed("removed", gone)

    def _has(self, name: str) -> bool:
        return name in self._address or name in self._policies

    def _pods(self, wanted: Asked) -> dict[str, int]:
        """The enrolled pods that are wanted, with their cookies."""
        pods = self._context.writer.steering.pods.wanted.items()
        found = ((uid, cookie) for cookie, uid in pods if wanted.chosen.has_pod(uid))
        return dict(islice(found, wanted.limit))

    def _pod(self, cookie: int, uid: str) -> dict[str, Any]:
        steering = self._context.writer.steering
        *_, namespace, name = ("", "", *uid.split("/"))
        workload = steering.store.workloads.get(uid)
        account = workload.identity.service_account if workload else ""
        return {
            "state": "Up" if cookie in steering.pods.rows else "Pending",
            "info": {"name": name, "namespace": namespace, "serviceAccount": account},
        }


async def shown_connections(plane: DataPlane, cookie: int) -> bytes:
    """A pod's open connections as ztunnel shows them; those that cannot be read say why."""

    def made() -> bytes:
        shapes: dict[str, list[dict[str, str]]] = {"inbound": [], "outbound": []}
        for one in connections(plane, cookie):
            shape = {"src": host_port(*one.source), "originalDst": host_port(*one.dialled)}
            shape |= {"actualDst": host_port(*one.destination), "protocol": "TCP"}
            shapes["inbound" if one.inbound else "outbound"].append(shape)
        return orjson.dumps(shapes)

    try:
        return await anyio.to_thread.run_sync(made)
    except BpfError as error:
        return orjson.dumps({"inbound": [], "outbound": [], "error": str(error)})


def shown(resource: Resource) -> dict[str, Any]:
    """Upstream's object of any resource."""
    value = resource.value
    if isinstance(value, Authorization):
        return upstream_policy(value)
    found = dump(resource)
    return upstream_workload(found) if isinstance(value, Workload) else upstream_service(found)


def _made(shape: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Resource], bytes]:
    return lambda resource: orjson.dumps(shape(dump(resource)))


def _policy(shape: Callable[[Authorization], dict[str, Any]]) -> Callable[[Resource], bytes]:
    def render(resource: Resource) -> bytes:
        assert isinstance(resource.value, Authorization)
        return orjson.dumps(shape(resource.value))

    return render


def _endpoint(uid: str, member: Membership, healthy: bool) -> dict[str, Any]:
    return {
        "workloadUid": uid,
        "port": {str(port.service): port.target for port in member.ports},
        "status": "Healthy" if healthy else "Unhealthy",
    }


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
