"""Long answers: whole, in order, in slices, and nobody waits for a client that reads nothing."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from itertools import repeat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import anyio
import anyio.lowlevel
import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kmesh.core.changes import Changes
from kmesh.core.events import ADDRESS
from kmesh.core.model import Rejected, Resource, Workload
from kmesh.core.views import Chosen
from kmesh.tasks import dumps, stream
from kmesh.tasks.dump_rows import DumpRows
from kmesh.tasks.filters import Asked
from kmesh.tasks.gate import GATE, Gate
from kmesh.tasks.problems import problems
from kmesh.tasks.stream import in_order, listed
from kmesh.wire import convert
from tests.wire.test_dump import FULL_SERVICE, FULL_WORKLOAD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from kmesh.core.delta import Session
    from kmesh.tasks.admin_context import Context

anyio_test = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def served(path: Path, handler: Any) -> AsyncIterator[aiohttp.ClientSession]:
    app = web.Application(middlewares=[problems])
    app[GATE] = Gate(8, 10.0)
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(path / "s")).start()
    connector = aiohttp.UnixConnector(path=str(path / "s"))
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            yield session
    finally:
        await runner.cleanup()


@given(st.lists(st.text()), st.integers(1, 5))
def test_names_come_in_order(names: list[str], at_a_time: int) -> None:
    before = stream.SORTED
    stream.SORTED = at_a_time
    try:
        found = list(in_order(names))
    finally:
        stream.SORTED = before
    assert [name for name in found if name is not None] == sorted(set(names))
    assert found.count(None) == -(-len(names) // at_a_time)


def test_names_may_come_and_go_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SORTED", 2)
    names = dict.fromkeys("cabd")
    found = in_order(names)
    assert next(found) is None
    names["e"] = names.pop("d")
    assert [name for name in found if name is not None] == list("abcd")


@given(st.lists(st.one_of(st.none(), st.integers(0, 99))))
def test_lists_are_json(rows: list[int | None]) -> None:
    def pieces() -> Iterator[bytes]:
        encoded = [None if row is None else orjson.dumps(row) for row in rows]
        yield b"{"
        yield from listed("a", encoded, first=True)
        yield from listed("b", encoded)
        yield b"}"

    wanted = [row for row in rows if row is not None]
    assert orjson.loads(b"".join(pieces())) == {"a": wanted, "b": wanted}


@anyio_test
async def test_others_get_their_turn_meanwhile(tmp_path: Path) -> None:
    turns = 0

    def pieces() -> Iterator[bytes]:
        while turns < 50:  # ends only because somebody else runs
            yield b"x"

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async def handler(request: web.Request) -> web.StreamResponse:
        return await stream.stream(request, pieces(), "text/plain")

    async with served(tmp_path, handler) as session, anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        async with session.get("http://k/") as response:
            assert set(await response.read()) == {ord("x")}
        tasks.cancel_scope.cancel()


@anyio_test
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])
async def test_who_was_to_be_woken_during_a_slice_comes_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "PART", 1)  # a piece is a slice
    woken: list[int] = []
    made = 0

    def pieces() -> Iterator[bytes]:
        nonlocal made
        while made < 5:
            made += 1
            end = time.monotonic() + 0.01
            while made == 2 and time.monotonic() < end:
                pass
            yield b"x"

    async def wait() -> None:
        await asyncio.sleep(0.005)
        woken.append(made)

    async with anyio.create_task_group() as tasks:
        async for _ in stream._sliced(pieces()):
            if made == 1:
                tasks.start_soon(wait)
    assert woken == [2]


@anyio_test
async def test_a_client_that_reads_nothing_loses_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "WRITE_WITHIN", 0.2)
    ended, gates = anyio.Event(), list[Gate]()

    async def handler(request: web.Request) -> web.StreamResponse:
        gates.append(request.app[GATE])
        try:
            return await stream.stream(request, repeat(b"x" * 65536))
        finally:
            ended.set()

    async with served(tmp_path, handler), await anyio.connect_unix(str(tmp_path / "s")) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: k\r\n\r\n")
        with anyio.fail_after(30):
            await ended.wait()
        read = b""
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)), anyio.fail_after(30):
            while True:
                read += await client.receive()
        assert not read.endswith(b"0\r\n\r\n"), "half an answer looks whole"
    assert [gate.turned for gate in gates] == [{"unread": 1}]


@anyio_test
async def test_a_client_that_goes_ends_the_work(tmp_path: Path) -> None:
    ended = anyio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            return await stream.stream(request, repeat(b"x" * 1024))
        finally:
            ended.set()

    async with served(tmp_path, handler) as session:
        response = await session.get("http://k/")
        await response.content.readexactly(1024)
        response.close()
        with anyio.fail_after(30):
            await ended.wait()


def resources() -> dict[str, Resource]:
    found = {
        name: Resource(name, "1", bytes(message), convert.address(message))
        for name, message in (("u", FULL_WORKLOAD), ("ns/h", FULL_SERVICE))
    }
    return {**found, "bad": Resource("bad", "1", b"", Rejected("bad", "it is"))}


@anyio_test
async def test_what_goes_during_a_dump_is_not_in_it(tmp_path: Path) -> None:
    held = resources()
    session = SimpleNamespace(held=lambda kind: held if kind == ADDRESS else {}, changes=Changes())
    made = DumpRows(cast("Session", session))
    wanted = Asked(Chosen(), 100, False)
    rows = made.made(Workload, wanted, lambda resource: resource.name.encode())
    assert next(rows) is None
    held.clear()
    assert [row for row in rows if row] == []


@anyio_test
async def test_a_table_for_people(tmp_path: Path) -> None:
    held = resources()
    session = SimpleNamespace(held=lambda kind: held if kind == ADDRESS else {}, changes=Changes())
    made = dumps.Dumps(cast("Context", SimpleNamespace(session=session)))
    async with served(tmp_path, made.dual_engine) as client:
        response = await client.get("http://k/", headers={"Accept": "text/plain"})
        assert response.content_type == "text/plain"
        lines = (await response.text()).splitlines()
    assert [line.split() for line in lines if line] == [
        ["NAME", "NAMESPACE", "ADDRESSES", "PROTOCOL", "STATUS"],
        ["n", "ns", "10.0.0.1,fd00::1", "HBONE", "UNHEALTHY"],
        ["NAME", "NAMESPACE", "HOSTNAME", "VIPS"],
        ["s", "ns", "h", "/10.0.0.1,net/fd00::1,/10.0.0.1/8"],
        ["NAME", "NAMESPACE", "SCOPE", "ACTION"],
    ]
