"""Dumps of large meshes: work comes in pieces that do not grow with the mesh, nothing is copied as
a whole, and what is shown is what was asked for."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from kmesh.bpf.fake import FakeKernel
from kmesh.config import parse
from kmesh.core.changes import Changes
from kmesh.core.commands import GUARD, VIP
from kmesh.core.differences import Wanted, frontends, resources
from kmesh.core.events import ADDRESS
from kmesh.core.model import Service, Workload
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from kmesh.core.views import Chosen
from kmesh.tasks import stream
from kmesh.tasks.dumps import Dumps
from kmesh.tasks.filters import Asked
from kmesh.tasks.kernel_dump import KernelDump, Source
from kmesh.wire.discovery import Decoder, ResponseReader
from kmesh.wire.gen.istio import workload as wds
from kmesh.wire.held import HeldMesh, passing
from kmesh.wire.mesh import Mesh
from kmesh.wire.parts import Parts
from tests.core.meshes import WEB, service, workload
from tests.core.test_law import slices
from tests.wire.messages import entry, response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmesh.tasks.admin_context import Context

SMALL, LARGE, HUGE = 300, 1500, 3000
RUN = 64  # names sorted at a time
SERVICE = "ns/all.example"
ALL = Asked(Chosen(), 10_000_000, False)
SHAPES: dict[str, Callable[[Dumps, Asked], Iterator[bytes]]] = {
    "upstream": Dumps.upstream,
    "ztunnel": lambda dumps, wanted: dumps.like_ztunnel.pieces(wanted),
    "raw": Dumps.raw,
    "tables": Dumps.tables,
}


def mesh(count: int) -> Dumps:
    """So many workloads, all of them endpoints of one service, held as an agent holds them."""
    entries = []
    ports = wds.PortList(ports=[wds.Port(service_port=80, target_port=8080)])
    for number in range(count):
        uid = f"c//Pod/ns{number % 7}/pod-{number}"
        message = wds.Address(
            workload=wds.Workload(
                uid=uid, name=f"pod-{number}", namespace=f"ns{number % 7}", node="n1",
                addresses=[b"\x0a" + number.to_bytes(3, "big")], services={SERVICE: ports},
            )
        )  # fmt: skip
        entries.append(entry(bytes(message), uid))
    front = wds.NetworkAddress(address=b"\x0a\x60\0\1")
    whole = wds.Address(
        service=wds.Service(
            name="all", namespace="ns", hostname="all.example", addresses=[front], ports=ports.ports
        )
    )
    entries.append(entry(bytes(whole), SERVICE))
    compact = Mesh(Parts())
    held, reader = HeldMesh(compact), ResponseReader(Decoder(compact))
    rows = reader.feed(response(entries))
    reader.finish()
    held.put(rows)
    store = Store(roster=compact)
    store.apply((row.name, cast("Service", row.value)) for row in rows)
    pods = SimpleNamespace(wanted={7: "c//Pod/ns0/pod-0", 8: "c//Pod/ns1/pod-1"}, rows={7: None})
    context = SimpleNamespace(
        session=SimpleNamespace(
            held=lambda kind: held.view if kind == ADDRESS else {},
            changes=Changes(others=[held.changed_since]),
        ),
        writer=SimpleNamespace(steering=SimpleNamespace(store=store, pods=pods)),
        config=parse([], {}),
    )
    return Dumps(cast("Context", context))


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SORTED", RUN)


@pytest.fixture(scope="module")
def meshes() -> dict[int, Dumps]:
    return {count: mesh(count) for count in (SMALL, LARGE, HUGE)}


def largest(pieces: Iterator[bytes]) -> tuple[int, int]:
    """(calls of functions, bytes) of the largest piece: work that no machine makes slower."""
    calls = most = size = 0

    def note(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for piece in pieces:
            most, size = max(most, calls), max(size, len(piece))
            calls = 0
    finally:
        sys.setprofile(before)
    return most, size


@pytest.mark.parametrize("shape", SHAPES)
def test_a_piece_of_work_does_not_grow_with_the_mesh(meshes: dict[int, Dumps], shape: str) -> None:
    small, large = (largest(SHAPES[shape](meshes[count], ALL)) for count in (SMALL, LARGE))
    assert large[0] <= small[0] * 1.1 + 150, "a few for each of the runs that are merged"
    assert large[1] <= small[1] * 1.1 + 20
    assert large[0] < 5_000
    assert large[1] < 64 << 10


def peak(pieces: Iterator[bytes]) -> int:
    """Bytes that were allocated at once."""
    tracemalloc.start()
    try:
        for _ in pieces:
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_copied_as_a_whole(meshes: dict[int, Dumps], shape: str) -> None:
    """A dump needs its names, packed, and of everything else one piece."""
    small, large = (peak(SHAPES[shape](meshes[count], ALL)) for count in (LARGE, HUGE))
    assert (large - small) / (HUGE - LARGE) < 60


def visited(pieces: Iterator[bytes]) -> int:
    """What a look of the garbage collector goes through at most, beyond what was there before."""
    most = 0
    gc.collect()
    gc.freeze()
    try:
        for number, _ in enumerate(pieces):
            if number % 97 == 0:
                gc.collect()  # also untracks what can have no part in a cycle
                most = max(most, sum(len(gc.get_referents(one)) for one in gc.get_objects()))
    finally:
        gc.unfreeze()
    return most


@pytest.mark.parametrize("shape", SHAPES)
def test_the_garbage_collector_has_nothing_to_look_at(meshes: dict[int, Dumps], shape: str) -> None:
    """A list of 100,000 names takes 20 ms of each of its looks."""
    small, large = (visited(SHAPES[shape](meshes[count], ALL)) for count in (SMALL, LARGE))
    assert (large - small) / (LARGE - SMALL) < 0.9, "not one for each, but some for each run"


@pytest.mark.parametrize("shape", ["upstream", "ztunnel", "raw"])
def test_all_that_changed_since_a_revision_comes_in_pieces(
    meshes: dict[int, Dumps], shape: str
) -> None:
    changed = [
        (meshes[count], ALL._replace(names=meshes[count]._rows.changes.since(0)))
        for count in (SMALL, LARGE)
    ]
    small, large = (largest(SHAPES[shape](*each)) for each in changed)
    assert large[0] <= small[0] * 1.1 + 150
    found = orjson.loads(b"".join(SHAPES[shape](*changed[1])))
    assert len(found["address" if shape == "raw" else "workloads"]) == LARGE
    assert found["removed"] == []


@pytest.mark.parametrize("shape", ["upstream", "ztunnel", "raw"])
def test_a_large_dump_is_whole(meshes: dict[int, Dumps], shape: str) -> None:
    found = orjson.loads(b"".join(SHAPES[shape](meshes[LARGE], ALL)))
    names = [f"pod-{number}" for number in range(LARGE)]
    if shape == "raw":
        assert len(found["address"]) == LARGE + 1
        return
    shown = [row["name"] for row in found["workloads"]]
    assert sorted(shown) == sorted(names)
    if shape == "upstream":
        assert shown == sorted(shown), "upstream sorts by name, whatever the namespace"
        return
    uids = [row["uid"] for row in found["workloads"]]
    assert uids == sorted(uids)
    (all_,) = found["services"]
    assert set(all_["endpoints"]) == set(uids)
    assert all_["endpoints"][uids[0]] == {
        "workloadUid": uids[0], "port": {"80": 8080}, "status": "Healthy",
    }  # fmt: skip
    assert {uid: each["state"] for uid, each in found["workloadState"].items()} == {
        "c//Pod/ns0/pod-0": "Up", "c//Pod/ns1/pod-1": "Pending",
    }  # fmt: skip


def test_nothing_is_decoded_for_what_is_not_chosen(meshes: dict[int, Dumps]) -> None:
    wanted = Asked(Chosen("ns3", "pod-10"), 10, False)
    found = orjson.loads(b"".join(meshes[LARGE].upstream(wanted)))
    assert [row["uid"] for row in found["workloads"]] == ["c//Pod/ns3/pod-10"]
    assert found["services"] == []
    calls = []

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name == "_workload":
            calls.append(frame)

    sys.setprofile(note)
    try:
        list(meshes[LARGE].upstream(wanted))
    finally:
        sys.setprofile(None)
    assert len(calls) == 1


def test_the_table_is_aligned_however_long_it_is(meshes: dict[int, Dumps]) -> None:
    text = b"".join(meshes[LARGE].tables(ALL)).decode()
    workloads = text.split("\n\n")[0].splitlines()
    assert len(workloads) == LARGE + 1
    start = workloads[0].index("NAMESPACE")
    assert all(line[start - 1] == " " and line[start:].startswith("n") for line in workloads[1:120])


def kernel(count: int) -> KernelDump:
    """So many services, and one with as many endpoints, in a kernel in memory."""
    steering = Steering(Store("", "Kubernetes", "n1"), Segments(1 << 13), 1 << 13)
    tables = FakeKernel(1 << 13, 1 << 13)
    items: list[tuple[str, Any]] = [(WEB, service(WEB, "10.9.0.1"))]
    for number in range(count):
        each = workload(f"w{number}", f"10.1.{number >> 8}.{number & 255}", of=WEB)
        other = f"default/s{number}"
        items += [(each.uid, each)]
        items += [(other, service(other, f"10.8.{number >> 8}.{number & 255}"))]
    steering.put(items)
    steering.start()
    slices(steering, tables, 0.0)
    rows = tables.tables[VIP]
    return KernelDump(
        steering, Source(rows.items, rows.get, bytes(tables.slots), tables.tables[GUARD].get), ALL
    )


def test_pieces_of_the_kernel_s_dump_do_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmesh.core.kernel_view.AT_ONCE", RUN)
    monkeypatch.setattr("kmesh.tasks.kernel_dump.PIECE", RUN)
    made = [kernel(count) for count in (100, 600)]
    for pieces in (KernelDump.json, KernelDump.tables):
        small, large = (largest(pieces(each)) for each in made)
        assert large[0] <= small[0] * 1.1 + 150
        assert large[1] <= small[1] * 1.1 + 20
    few, many = (visited(each.json()) for each in made)
    assert (many - few) / 500 < 3, "the pairs of the ids of services, nothing of endpoints"
    found = orjson.loads(b"".join(made[1].json()))
    assert len(found["backends"]) == 600
    assert {row["differs"] for row in found["frontends"]} == {""}
    counts = {row["servicePort"]: row["endpointCount"] for row in found["services"]}
    assert set(counts.values()) == {"600"}


@pytest.mark.anyio
async def test_what_the_kernel_s_dump_held_is_given_back_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kmesh.tasks.kernel_dump.PIECE", RUN)
    made, left = kernel(300), list[int]()
    for _ in made.json():
        pass
    all_ = (made._services, made._workloads, made._backends)
    held = [part for spread in all_ for part in spread.parts]
    count = sum(len(one) for one in held)
    assert count > 800
    forgetting = asyncio.ensure_future(made.forget())
    while not forgetting.done():
        left.append(sum(len(one) for one in held))
        await asyncio.sleep(0)
    assert left[-1] == 0
    assert max(then - now for then, now in pairwise([count, *left])) <= RUN


def test_the_kernel_s_dump_is_filtered_and_limited() -> None:
    made = kernel(20)

    def shown(*chosen: str, limit: int = 1000) -> dict[str, Any]:
        wanted = Asked(Chosen(*chosen), limit, False)
        pieces = KernelDump(made._steering, made._source, wanted).json()
        found: dict[str, Any] = orjson.loads(b"".join(pieces))
        return found

    assert {row["upstreamId"] for row in shown("", "s7")["frontends"]} == {"default/s7"}
    assert shown("other")["frontends"] == []
    assert {row["service"] for row in shown("default", "web")["endpoints"]} == {WEB}
    assert {key: len(rows) for key, rows in shown(limit=3).items() if rows} == {
        "frontends": 3, "services": len(shown(limit=3)["services"]), "endpoints": 3, "backends": 3,
    }  # fmt: skip
    assert not any(shown(limit=0).values())


def test_the_kernel_s_table_for_people() -> None:
    text = b"".join(kernel(2).tables()).decode()
    records, ends = text.split("\n\n")
    assert records.splitlines()[0].split() == [
        "ADDRESS", "PORT", "VIEW", "SERVICE", "ACTION", "REASON", "ENDPOINTS", "DIFFERS",
    ]  # fmt: skip
    assert ["10.9.0.1", "80", "all", WEB, "balance", "balanced", "2", "-"] in [
        line.split() for line in records.splitlines()
    ]
    assert len(ends.splitlines()) > 2


def test_differences_come_in_pieces(meshes: dict[int, Dumps]) -> None:
    def steps(made: Dumps) -> Iterator[Any]:
        store = made.like_ztunnel._context.writer.steering.store
        guards = SimpleNamespace(index=SimpleNamespace(policies={}))
        steering = SimpleNamespace(store=store, guards=guards)
        wanted = Wanted(passing(made._rows._address, Workload, Service), {}, {}, lambda: False)
        return resources(cast("Steering", steering), wanted)

    small, large = (largest(steps(meshes[count])) for count in (LARGE, HUGE))
    assert large[0] <= small[0] * 1.1 + 150
    assert large[0] < 5_000
    found = [step for step in steps(meshes[LARGE]) if step.found]
    assert found == []


def test_services_that_nothing_was_planned_of_are_compared_in_pieces() -> None:
    steering = Steering(Store("", "Kubernetes", "n1"), Segments(1 << 10), 1 << 10)
    keys = [f"default/s{number}" for number in range(600)]
    steering.put([
        (key, service(key, f"10.8.{number >> 8}.{number & 255}"))
        for number, key in enumerate(keys)
    ])  # fmt: skip
    steering.start()
    most, _ = largest(frontends(steering))  # type: ignore[arg-type]
    assert 0 < most < 5_000
    assert sum(step.looked for step in frontends(steering)) == len(keys)
