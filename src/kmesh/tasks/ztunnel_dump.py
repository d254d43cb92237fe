"""ztunnel's ``/config_dump``, which ``istioctl ztunnel-config`` reads, in pieces."""

from __future__ import annotations

from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import orjson

from kmesh import __version__
from kmesh.bpf.connections import connections
from kmesh.core.addr import host_port
from kmesh.core.changes import each
from kmesh.core.config_view import settings
from kmesh.core.endpoints import HEALTHY
from kmesh.core.model import Authorization, Service, Workload
from kmesh.core.views import ztunnel_policy
from kmesh.errors import BpfError
from kmesh.tasks.dump_rows import policy, shaped
from kmesh.tasks.filters import last_part
from kmesh.tasks.stream import More, listed
from kmesh.wire.dump import dump

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kmesh.bpf.load import DataPlane
    from kmesh.core.model import Membership
    from kmesh.tasks.admin_context import Context
    from kmesh.tasks.dump_rows import DumpRows
    from kmesh.tasks.filters import Asked

    Rows = Iterator[bytes | None]

NO_CONNECTIONS = b'{"inbound":[],"outbound":[]}'
AT_ONCE = 32  # endpoints of a service in one piece


class ZtunnelDump:
    """Workloads, services with their endpoints, policies, and this node's pods."""

    def __init__(self, context: Context, rows: DumpRows) -> None:
        self._context, self._rows = context, rows

    async def open_connections(self, wanted: Asked) -> dict[str, bytes]:
        """Those of each pod that is wanted."""
        pods = self._pods(wanted)
        return {uid: await shown_connections(self._context.plane, pods[uid]) for uid in pods}

    def pieces(
        self, wanted: Asked, open_: Mapping[str, bytes] = MappingProxyType({})
    ) -> Iterator[bytes]:
        """Everything in ztunnel's shape, in pieces; ``open_`` are the connections of each pod."""
        yield b"{"
        workloads = self._rows.made(Workload, wanted, shaped(lambda found: found))
        yield from listed("workloads", workloads, first=True)
        yield from listed("services", self._services(wanted))
        policies = self._rows.made(Authorization, wanted, policy(ztunnel_policy))
        yield from listed("policies", policies)
        yield from self._rows.gone(wanted)
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

    def _services(self, wanted: Asked) -> Rows:
        """A service and its endpoints, some at a time: one may have all workloads."""
        for resource in self._rows.chosen((Service,), wanted, last_part):
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


def _endpoint(uid: str, member: Membership, healthy: bool) -> dict[str, Any]:
    return {
        "workloadUid": uid,
        "port": {str(port.service): port.target for port in member.ports},
        "status": "Healthy" if healthy else "Unhealthy",
    }
