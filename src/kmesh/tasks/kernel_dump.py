"""``/debug/config_dump/bpf/dual-engine``: the records that lie in the kernel, with names for ids,
and ``/debug/maps`` and ``/debug/links``. Read from the kernel itself, a batch at a time.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from kmesh.abi.layout import VIP_SIZE, VipAction
from kmesh.bpf import lib, query
from kmesh.bpf.copies import memory
from kmesh.core import kernel_view
from kmesh.core.audit import compare_record
from kmesh.core.kernel_view import Namer, Record
from kmesh.tasks.filters import BadFilter
from kmesh.tasks.problems import answer
from kmesh.tasks.stream import endless, listed, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmesh.core.ids import Ids
    from kmesh.tasks.admin_context import Context

PIECE = 4096
TYPES = {
    1: "hash", 2: "array", 5: "percpu_hash", 6: "percpu_array", 9: "lru_hash",
    10: "lru_percpu_hash", 11: "lpm_trie", 24: "sk_storage", 27: "ringbuf",
}  # fmt: skip


class KernelDumps:
    """The handlers, over the pinned maps."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @endless
    async def dual_engine(self, request: web.Request) -> web.StreamResponse:
        """Upstream's shape, and the address, port, view and reason of each record."""
        for name in request.query:
            if name != "service":
                raise BadFilter(f"there is no filter {name!r}", "As ?service=shop/web.shop.svc.")
        with ExitStack() as stack:
            maps = self._context.plane.maps
            fds = [os.dup(maps[name]) for name in ("km_vip", "km_slot")]
            for fd in fds:
                stack.callback(os.close, fd)
            pieces = self._pieces(fds[0], memory(fds[1]), request.query.get("service", ""))
            return await stream(request, pieces)

    def _pieces(self, vips: int, slots: memoryview, service: str) -> Iterator[bytes]:
        steering = self._context.writer.steering
        services: dict[int, str] = {}
        workloads: dict[int, str] = {}
        yield b"{"
        yield from inverse(steering.service_ids, services)
        yield from inverse(steering.workload_ids, workloads)
        names = Namer(
            lambda id_: services.get(id_, str(id_)), lambda id_: workloads.get(id_, str(id_))
        )
        backends: dict[tuple[str, bytes], dict[str, None]] = {}

        def records() -> Iterator[tuple[bytes, Record]]:
            for key, value in lib.rows(vips):
                found = kernel_view.record(key, value, slots, names)
                if not service or found.service == service:
                    yield key, found

        def show(render: Callable[[Record], list[Any]]) -> Iterator[bytes | None]:
            for _, found in records():
                rows = render(found)
                yield b",\n".join(orjson.dumps(row) for row in rows) if rows else None

        def frontends() -> Iterator[bytes | None]:
            planned = steering.planner.records
            for key, found in records():
                # Read once more: the row that came in a batch may have been replaced since.
                value = lib.lookup(vips, key, VIP_SIZE)
                said = compare_record(key, value, slots, planned.get(key)) or ""
                yield orjson.dumps({**kernel_view.frontend(found), "differs": said})
            for key in list(planned):
                wanted = planned.get(key)
                if wanted is None or lib.lookup(vips, key, VIP_SIZE) is not None:
                    yield None
                    continue
                shape = kernel_view.missing(key, wanted, names)
                yield orjson.dumps(shape) if service in ("", shape["upstreamId"]) else None

        def noted(found: Record) -> list[Any]:
            for slot in found.slots:
                place = (names.workload(slot.workload), slot.addr)
                backends.setdefault(place, {})[found.service] = None
            return kernel_view.endpoints(found, names)

        def balanced(found: Record) -> list[Any]:
            balances = found.action == VipAction.BALANCE.name.lower()
            return [kernel_view.service(found)] if balances else []

        policies = (
            orjson.dumps({"uid": pod.uid, "policyIds": list(pod.policies)})
            for pod in list(steering.guards.pods_guarded.values())
        )
        yield from listed("workloadPolicies", policies, first=True)
        yield from listed("frontends", frontends())
        yield from listed("services", show(balanced))
        yield from listed("endpoints", show(noted))
        yield from listed("backends", (
            orjson.dumps(kernel_view.backend(uid, address, list(found)))
            for (uid, address), found in backends.items()
        ))  # fmt: skip
        yield b"}\n"

    async def maps(self, _: web.Request) -> web.Response:
        """Every map as the kernel describes it, and its fill where that is counted."""
        counted = self._context.filler.statistics().maps
        rows = []
        for name, fd in self._context.plane.maps.items():
            info = lib.map_info(fd)
            fill = counted.get(name)
            rows.append({
                "name": name, **info._asdict(), "type": TYPES.get(info.type, str(info.type)),
                "entries": fill.entries if fill else None, "limit": self._context.limits.get(name),
                "pin": f"{self._context.plane.root}/maps/{name}",
            })  # fmt: skip
        return answer(rows)

    async def links(self, _: web.Request) -> web.Response:
        """The pinned links with the programs behind them."""
        return answer(links(f"{self._context.plane.root}/links"))


def links(folder: str) -> list[dict[str, Any]]:
    """Pinned links by name, each with its program; None for one that is gone."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        link = lib.pinned(str(path))
        if link is None:
            continue
        try:
            program = query.program(lib.link_info(link).program)
        finally:
            os.close(link)
        found.append({"link": path.name, "program": program._asdict() if program else None})
    return found


def inverse(ids: Ids, into: dict[int, str]) -> Iterator[bytes]:
    """Fill names by id, a piece at a time."""
    pairs = ids.pairs()
    for start in range(0, len(pairs), PIECE):
        into.update((id_, name) for name, id_ in pairs[start : start + PIECE])
        yield b""


def routes(context: Context) -> list[web.RouteDef]:
    """Dumps of what lies in the kernel."""
    made = KernelDumps(context)
    return [
        web.get("/debug/config_dump/bpf/dual-engine", made.dual_engine),
        web.get("/debug/maps", made.maps),
        web.get("/debug/links", made.links),
    ]
