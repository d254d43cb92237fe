"""``/debug/config_dump/bpf/dual-engine``: the records that lie in the kernel, with names for ids.

Read from the kernel itself, a batch at a time, and told where they are not as planned.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson

from kmesh.abi.layout import GUARD_SIZE, VIP_SIZE, Slot
from kmesh.bpf import lib
from kmesh.bpf.copies import memory
from kmesh.core import columns, kernel_view
from kmesh.core.audit import compare, compare_record
from kmesh.core.kernel_view import BALANCE, Namer, Record
from kmesh.tasks.filters import Asked, asked
from kmesh.tasks.listener import told
from kmesh.tasks.stream import endless, listed, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aiohttp import web

    from kmesh.core.ids import Ids
    from kmesh.core.steer import Steering
    from kmesh.tasks.admin_context import Context

    Rows = Iterator[bytes | None]

T = TypeVar("T")
TABLES = ("km_vip", "km_slot", "km_guard")
PIECE = 256  # names or rows of a table
NUMBER = 4  # bytes
PARTS = 64
RECORDS = ("ADDRESS", "PORT", "VIEW", "SERVICE", "ACTION", "REASON", "ENDPOINTS", "DIFFERS")
ENDPOINTS = ("SERVICE", "PORT", "WORKLOAD", "ADDRESS", "TARGET", "SLOTS")


class Source(NamedTuple):
    """km_vip, as a whole and row by row, the memory of km_slot, and km_guard row by row."""

    rows: Callable[[], Iterable[tuple[bytes, bytes]]]
    row: Callable[[bytes], bytes | None]
    slots: bytes | memoryview
    guard: Callable[[bytes], bytes | None]


class Spread:
    """Dictionaries for the values of many keys: one for all would be copied as it grows, which at
    87,000 keys holds the loop up for 5 ms."""

    def __init__(self) -> None:
        self.parts: list[dict[Any, Any]] = [{} for _ in range(PARTS)]

    def of(self, number: int) -> dict[Any, Any]:
        """The one for the keys of this number."""
        return self.parts[number % PARTS]


class KernelDump:
    """One dump in pieces."""

    def __init__(self, steering: Steering, source: Source, wanted: Asked) -> None:
        self._steering, self._source, self._wanted = steering, source, wanted
        self._services, self._workloads = Spread(), Spread()
        self._names = Namer(
            lambda id_: self._services.of(id_).get(id_, str(id_)),
            lambda id_: self._workloads.of(id_).get(id_, str(id_)),
        )
        # Bytes to bytes: the garbage collector does not visit them, and they are a third as large.
        self._backends = Spread()
        self._numbers: dict[str, bytes] = {}

    def json(self) -> Iterator[bytes]:
        """Upstream's shape, and the address, port, view and reason of each record."""
        yield b"{"
        yield from self._learn()
        limit = self._wanted.limit
        yield from listed("workloadPolicies", limited(self._policies(), limit), first=True)
        yield from listed("frontends", limited(self._frontends(), limit))
        yield from listed("services", limited(self._counted(), limit))
        yield from listed("endpoints", limited(self._endpoints(), limit))
        yield from listed("backends", limited(self._known_backends(), limit))
        yield b"}\n"

    def tables(self) -> Iterator[bytes]:
        """For people."""
        yield from self._learn()
        limit = self._wanted.limit
        yield from columns.table(RECORDS, limited(self._record_cells(), limit))
        yield b"\n"
        yield from columns.table(ENDPOINTS, limited(self._endpoint_cells(), limit))

    async def forget(self) -> None:
        """Give back in pieces what is only this dump's: 300,000 objects at once hold the loop up
        for 25 ms. Also of a dump that nobody took to its end."""
        all_ = (self._services, self._workloads, self._backends)
        for held in (part for spread in all_ for part in spread.parts):
            while held:
                for _ in range(min(PIECE, len(held))):
                    held.popitem()
                await asyncio.sleep(0)

    def _learn(self) -> Iterator[bytes]:
        yield from inverse(self._steering.service_ids, self._services)
        yield from inverse(self._steering.workload_ids, self._workloads)

    def _records(self) -> Iterator[tuple[bytes, Record] | None]:
        for key, value in self._source.rows():
            found = kernel_view.record(key, value, self._source.slots, self._names)
            chosen = self._wanted.chosen.has_service(found.service)
            yield (key, found) if chosen else None

    def _weighed(self) -> Iterator[tuple[Record, kernel_view.Weights] | None]:
        for each in self._records():
            if each is None or each[1].action != BALANCE:
                yield None
                continue
            for weights in kernel_view.weigh(each[1]):
                yield None if weights is None else (each[1], weights)

    def _differs(self, key: bytes) -> str:
        # Read once more: the row that came in a batch may have been replaced since.
        planned = self._steering.planner.records.get(key)
        value = self._source.row(key)
        return str(compare_record(key, value, self._source.slots, planned) or "")

    def _policies(self) -> Rows:
        guards = self._steering.guards
        for pod in list(guards.records.pods.values()):
            kinds = [
                compare(guards.records.rows.get(address), self._source.guard(address))
                for address in guards.records.addresses(pod.uid)
            ]
            said = next((str(kind) for kind in kinds if kind is not None), "")
            shape = {"uid": pod.uid, "policyIds": list(pod.policies), "differs": said}
            yield orjson.dumps(shape)

    def _frontends(self) -> Rows:
        for each in self._records():
            if each is None:
                yield None
                continue
            key, found = each
            yield orjson.dumps({**kernel_view.frontend(found), "differs": self._differs(key)})
        planned = self._steering.planner.records
        for key in list(planned):
            wanted = planned.get(key)
            if wanted is None or self._source.row(key) is not None:
                yield None
                continue
            shape = kernel_view.missing(key, wanted, self._names)
            chosen = self._wanted.chosen.has_service(shape["upstreamId"])
            yield orjson.dumps(shape) if chosen else None

    def _counted(self) -> Rows:
        for each in self._weighed():
            yield None if each is None else orjson.dumps(kernel_view.service(*each))

    def _endpoints(self) -> Rows:
        for each in self._slots():
            yield None if each is None else orjson.dumps(each[1])

    def _slots(self) -> Iterator[tuple[Record, kernel_view.Shape] | None]:
        """Every endpoint of every record; its workload is a backend from now on."""
        for each in self._weighed():
            if each is None:
                yield None
                continue
            found, weights = each
            for raw, count in weights.items():
                slot = Slot.unpack(raw)
                self._serves(slot, found.service)
                yield found, kernel_view.endpoint(found, slot, count, self._names)

    def _serves(self, slot: Slot, service: str) -> None:
        number = self._numbers.get(service)
        if number is None:
            number = self._numbers[service] = len(self._numbers).to_bytes(NUMBER, "little")
        place = slot.workload.to_bytes(NUMBER, "little") + slot.addr
        backends = self._backends.of(slot.workload)
        known = backends.get(place, b"")
        if number not in _numbers(known):
            backends[place] = known + number

    def _known_backends(self) -> Rows:
        names = list(self._numbers)
        for place, known in (row for part in self._backends.parts for row in part.items()):
            uid = self._names.workload(int.from_bytes(place[:NUMBER], "little"))
            services = [names[int.from_bytes(each, "little")] for each in _numbers(known)]
            yield orjson.dumps(kernel_view.backend(uid, place[NUMBER:], services))

    def _record_cells(self) -> Iterator[list[object] | None]:
        for each in self._records():
            if each is None:
                yield None
                continue
            key, found = each
            weights: kernel_view.Weights = {}
            for counted in kernel_view.weigh(found):
                if counted is None:
                    yield None
                else:
                    weights = counted
            shape = kernel_view.frontend(found)
            yield [
                shape["address"], shape["port"] or "other", shape["view"] or "all",
                found.service, found.action, found.reason, len(weights), self._differs(key),
            ]  # fmt: skip

    def _endpoint_cells(self) -> Iterator[list[object] | None]:
        for each in self._slots():
            if each is None:
                yield None
                continue
            found, shape = each
            yield [
                found.service, found.key.port, shape["backendUid"], shape["address"],
                shape["port"], shape["slots"],
            ]  # fmt: skip


def _numbers(packed: bytes) -> list[bytes]:
    return [packed[at : at + NUMBER] for at in range(0, len(packed), NUMBER)]


def limited(rows: Iterable[T | None], most: int) -> Iterator[T | None]:
    """The rows until there were so many; None is not counted."""
    for row in rows if most else ():
        yield row
        most -= row is not None
        if not most:
            return


def inverse(ids: Ids, into: Spread) -> Iterator[bytes]:
    """Fill names by id, a piece at a time."""
    pairs = ids.pairs()
    while some := list(islice(pairs, PIECE)):
        for name, id_ in some:
            into.of(id_)[id_] = name
        yield b""


def routes(context: Context) -> list[web.RouteDef]:
    """The dump of what lies in the kernel."""

    @endless
    async def dual_engine(request: web.Request) -> web.StreamResponse:
        wanted = asked(request, None)
        with ExitStack() as stack:
            fds = [os.dup(context.plane.maps[name]) for name in TABLES]
            for fd in fds:
                stack.callback(os.close, fd)
            source = Source(
                lambda: lib.rows(fds[0], batch=PIECE),
                lambda key: lib.lookup(fds[0], key, VIP_SIZE),
                memory(fds[1]),
                lambda key: lib.lookup(fds[2], key, GUARD_SIZE),
            )
            made = KernelDump(context.writer.steering, source, wanted)
            try:
                if wanted.table:
                    return await stream(request, made.tables(), "text/plain")
                return await stream(request, made.json())
            finally:
                await made.forget()

    return [told("/debug/config_dump/bpf/dual-engine", dual_engine)]
