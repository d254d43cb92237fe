"""Dumps of large meshes: work comes in pieces that do not grow with the mesh, nothing is copied as
a whole, and what is shown is what was asked for."""

from __future__ import annotations

import sys
import tracemalloc
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from kmesh.config import parse
from kmesh.core.changes import Changes
from kmesh.core.events import ADDRESS
from kmesh.core.model import Resource, Service, Workload
from kmesh.core.store import Store
from kmesh.core.views import Chosen
from kmesh.tasks import stream
from kmesh.tasks.dumps import Dumps
from kmesh.tasks.filters import Asked
from kmesh.wire import convert
from kmesh.wire.gen.istio import workload as wds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmesh.tasks.admin_context import Context

SMALL, LARGE = 300, 1500
RUN = 64  # names sorted at a time
SERVICE = "ns/all.example"
ALL = Asked(Chosen(), 10_000_000, False)
SHAPES: dict[str, Callable[[Dumps, Asked], Iterator[bytes]]] = {
    "upstream": Dumps.upstream,
    "ztunnel": Dumps.like_ztunnel,
    "raw": Dumps.raw,
    "tables": Dumps.tables,
}


def mesh(count: int) -> Dumps:
    """So many workloads, all of them endpoints of one service."""
    held: dict[str, Resource] = {}
    ports = wds.PortList(ports=[wds.Port(service_port=80, target_port=8080)])
    for number in range(count):
        uid = f"c//Pod/ns{number % 7}/pod-{number}"
        message = wds.Address(
            workload=wds.Workload(
                uid=uid, name=f"pod-{number}", namespace=f"ns{number % 7}", node="n1",
                addresses=[b"\x0a" + number.to_bytes(3, "big")], services={SERVICE: ports},
            )
        )  # fmt: skip
        held[uid] = Resource(uid, "1", bytes(message), convert.address(message))
    front = wds.NetworkAddress(address=b"\x0a\x60\0\1")
    service = wds.Address(
        service=wds.Service(
            name="all", namespace="ns", hostname="all.example", addresses=[front], ports=ports.ports
        )
    )
    held[SERVICE] = Resource(SERVICE, "1", bytes(service), convert.address(service))
    store = Store()
    store.apply((name, cast("Workload | Service", each.value)) for name, each in held.items())
    pods = SimpleNamespace(wanted={7: "c//Pod/ns0/pod-0", 8: "c//Pod/ns1/pod-1"}, rows={7: None})
    context = SimpleNamespace(
        session=SimpleNamespace(
            held=lambda kind: held if kind == ADDRESS else {}, changes=Changes()
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
    return {count: mesh(count) for count in (SMALL, LARGE)}


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
    small, large = (largest(SHAPES[shape](made, ALL)) for made in meshes.values())
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
    """A dump needs its list of names, and of everything else one piece."""
    small, large = (peak(SHAPES[shape](made, ALL)) for made in meshes.values())
    assert (large - small) / (LARGE - SMALL) < 60


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
    (service,) = found["services"]
    assert set(service["endpoints"]) == set(uids)
    assert service["endpoints"][uids[0]] == {
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
