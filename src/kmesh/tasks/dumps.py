"""Dumps of what is wanted: upstream's ``/debug/config_dump``, ztunnel's ``/config_dump``, and the
resources themselves. Streamed: 100,000 workloads neither hold the loop nor are copied as a whole.

``?namespace=``, ``?name=``, ``?limit=`` and ``?since=REVISION`` choose; the header Kmesh-Revision
tells the revision to ask with next time; ``Accept: text/plain`` gives tables.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from aiohttp import web

from kmesh import __version__
from kmesh.core import redact
from kmesh.core.events import ADDRESS, AUTHORIZATION
from kmesh.core.model import Authorization, Rejected, Service, Workload
from kmesh.core.views import (
    Chosen,
    upstream_policy,
    upstream_service,
    upstream_workload,
    ztunnel_policy,
)
from kmesh.errors import KmeshError
from kmesh.tasks.stream import endless, in_order, listed, stream
from kmesh.wire.dump import dump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Set

    from kmesh.core.changes import Changes
    from kmesh.core.model import Resource
    from kmesh.tasks.admin_context import Context

MOST_LIMIT = 10_000_000
WRONG_MODE = b"\tInvalid Client Mode\n"
TABLES = {
    Workload: ("NAME", "NAMESPACE", "ADDRESSES", "PROTOCOL", "STATUS"),
    Service: ("NAME", "NAMESPACE", "HOSTNAME", "VIPS"),
    Authorization: ("NAME", "NAMESPACE", "SCOPE", "ACTION"),
}
COLUMN = 24


class BadFilter(KmeshError):
    """A filter of a dump cannot be understood."""

    code = "KM1708"
    next_step = "As ?namespace=shop&name=web&limit=100."


class Asked(NamedTuple):
    """What a request wants to see."""

    chosen: Chosen
    limit: int
    table: bool
    names: Set[str] | None = None  # those that changed since; None: all


def asked(request: web.Request, changes: Changes) -> Asked:
    """The filters of a request; raises BadFilter."""
    query = request.query
    for name in query:
        if name not in ("namespace", "name", "limit", "since"):
            raise BadFilter(f"there is no filter {name!r}")
    accept = request.headers.get("Accept", "")
    table = "text/plain" in accept and "application/json" not in accept
    chosen = Chosen(query.get("namespace", ""), query.get("name", ""))
    since = query.get("since")
    names = None if since is None else changes.since(number("since", since))
    if since is not None and names is None:
        raise BadFilter(
            f"the changes since revision {since} are not known; now is {changes.revision}",
            "Ask without since, then with the revision of that answer's Kmesh-Revision.",
        )
    return Asked(chosen, number("limit", query.get("limit", str(MOST_LIMIT))), table, names)


def number(name: str, raw: str) -> int:
    """A number of a query; raises BadFilter."""
    if not (raw.isascii() and raw.isdigit() and len(raw) < 9):
        raise BadFilter(f"{name} {raw!r} is no number")
    return int(raw)


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
        wanted = asked(request, self._changes)
        if wanted.table:
            return await stream(request, self._tables(wanted), "text/plain", self._headers())
        return await stream(request, self._upstream(wanted), headers=self._headers())

    @endless
    async def ztunnel(self, request: web.Request) -> web.StreamResponse:
        """ztunnel's shape, which ``istioctl ztunnel-config`` reads."""
        pieces = self._ztunnel(asked(request, self._changes))
        return await stream(request, pieces, headers=self._headers())

    @endless
    async def resources(self, request: web.Request) -> web.StreamResponse:
        """Name, version and bytes of every resource: what a bundle needs to answer questions."""
        pieces = self._raw(asked(request, self._changes))
        return await stream(request, pieces, headers=self._headers())

    async def wrong_mode(self, _: web.Request) -> web.Response:
        """The other engine of upstream."""
        return web.Response(body=WRONG_MODE, status=400, content_type="text/plain")

    def _headers(self) -> dict[str, str]:
        return {"Kmesh-Revision": str(self._changes.revision)}

    def _gone(self, wanted: Asked) -> Iterator[bytes]:
        """Names that changed and are not held any more."""
        if wanted.names is not None:
            gone = (
                orjson.dumps(name)
                for name in sorted(wanted.names)
                if name not in self._address and name not in self._policies
            )
            yield from listed("removed", gone)

    def _upstream(self, wanted: Asked) -> Iterator[bytes]:
        yield b"{"
        workloads = self._rows(self._address, Workload, wanted, _made(upstream_workload))
        yield from listed("workloads", workloads, first=True)
        services = self._rows(self._address, Service, wanted, _made(upstream_service))
        yield from listed("services", services)
        policies = self._rows(self._policies, Authorization, wanted, _policy(upstream_policy))
        yield from listed("policies", policies)
        yield from self._gone(wanted)
        yield b"}\n"

    def _ztunnel(self, wanted: Asked) -> Iterator[bytes]:
        yield b"{"
        workloads = self._rows(self._address, Workload, wanted, _made(lambda found: found))
        yield from listed("workloads", workloads, first=True)
        yield from listed("services", self._rows(self._address, Service, wanted, self._service))
        policies = self._rows(self._policies, Authorization, wanted, _policy(ztunnel_policy))
        yield from listed("policies", policies)
        pods = self._context.writer.steering.pods.wanted.values()
        rest = {
            "stagedServices": {},
            "certificates": [],
            "version": {"version": __version__},
            "config": settings(self._context.config),
            "workloadState": {uid: pod_state(uid) for uid in pods},
        }
        yield b",\n" + orjson.dumps(rest)[1:] + b"\n"

    def _service(self, resource: Resource) -> bytes:
        members = self._context.writer.steering.store.members.get(resource.name, {})
        shape = dump(resource)
        shape["endpoints"] = {
            uid: {"workloadUid": uid, "port": _ports(workload, resource.name),
                  "status": "Healthy" if workload.traits & 1 else "Unhealthy"}
            for uid, workload in members.items()
        }  # fmt: skip
        return orjson.dumps(shape)

    def _raw(self, wanted: Asked) -> Iterator[bytes]:
        def row(resource: Resource) -> bytes:
            raw = b64encode(resource.raw).decode()
            return orjson.dumps({"name": resource.name, "version": resource.version, "raw": raw})

        yield b"{"
        for i, (kind, held) in enumerate(
            (("address", self._address), ("authorization", self._policies))
        ):
            found = (
                None if resource is None else row(resource)
                for resource in chosen(held, (Workload, Service, Authorization), wanted)
            )  # fmt: skip
            yield from listed(kind, found, first=not i)
        yield b"}\n"

    def _rows(
        self,
        held: Mapping[str, Resource],
        kind: type,
        wanted: Asked,
        render: Callable[[Resource], bytes],
    ) -> Iterator[bytes | None]:
        for resource in chosen(held, (kind,), wanted):
            yield None if resource is None else render(resource)

    def _tables(self, wanted: Asked) -> Iterator[bytes]:
        for held, kind in (
            (self._address, Workload),
            (self._address, Service),
            (self._policies, Authorization),
        ):
            columns = TABLES[kind]
            yield line(columns)
            for resource in chosen(held, (kind,), wanted):
                if resource is None:
                    yield b""
                    continue
                shape = shown(resource)
                yield line(tuple(cell(shape.get(column.lower())) for column in columns))
            yield b"\n"


def chosen(
    held: Mapping[str, Resource], kinds: tuple[type, ...], wanted: Asked
) -> Iterator[Resource | None]:
    """The resources that are wanted, in order, as they are when their turn comes; None stands for
    a piece of work without one."""
    left = wanted.limit
    for name in in_order(held if wanted.names is None else wanted.names):
        resource = held.get(name) if name is not None else None
        if resource is None or isinstance(resource.value, Rejected):
            yield None
        elif isinstance(resource.value, kinds) and wanted.chosen.has(resource):
            if not left:
                return
            left -= 1
            yield resource
        else:
            yield None


def shown(resource: Resource) -> dict[str, Any]:
    """Upstream's object of any resource."""
    value = resource.value
    if isinstance(value, Authorization):
        return upstream_policy(value)
    found = dump(resource)
    return upstream_workload(found) if isinstance(value, Workload) else upstream_service(found)


def settings(config: Any) -> dict[str, Any]:
    """The configuration in force, secrets taken out; of extra headers the names only."""
    found: dict[str, Any] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name == "xds_headers":
            value = [name for name, _ in value]
        head, *rest = each.name.split("_")
        found["".join([head, *(part.capitalize() for part in rest)])] = _text(value)
    cleaned: dict[str, Any] = redact.document(found).value
    return cleaned


def _text(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple, frozenset)):
        return [_text(each) for each in (sorted(value) if isinstance(value, frozenset) else value)]
    return value.hex() if isinstance(value, bytes) else str(value)


def pod_state(uid: str) -> dict[str, Any]:
    """An enrolled pod; its connections are in the metrics and in /events."""
    *_, namespace, name = ("", "", *uid.split("/"))
    info = {"name": name, "namespace": namespace, "serviceAccount": ""}
    return {"state": "Up", "connections": {"inbound": [], "outbound": []}, "info": info}


def line(cells: tuple[str, ...]) -> bytes:
    """One line of a table."""
    return ("  ".join(f"{each:<{COLUMN}}" for each in cells).rstrip() + "\n").encode()


def cell(value: Any) -> str:
    """A value in a table."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _made(shape: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Resource], bytes]:
    return lambda resource: orjson.dumps(shape(dump(resource)))


def _policy(shape: Callable[[Authorization], dict[str, Any]]) -> Callable[[Resource], bytes]:
    def render(resource: Resource) -> bytes:
        assert isinstance(resource.value, Authorization)
        return orjson.dumps(shape(resource.value))

    return render


def _ports(workload: Workload, key: str) -> dict[str, int]:
    found = next((each for each in workload.memberships if each.service == key), None)
    return {str(port.service): port.target for port in found.ports} if found else {}


def routes(context: Context) -> list[web.RouteDef]:
    """Dumps of what is wanted."""
    made = Dumps(context)
    return [
        web.get("/debug/config_dump/dual-engine", made.dual_engine),
        web.get("/debug/config_dump/kernel-native", made.wrong_mode),
        web.get("/debug/config_dump/bpf/kernel-native", made.wrong_mode),
        web.get("/config_dump", made.ztunnel),
        web.get("/debug/resources", made.resources),
    ]
