"""The admin address: who may ask, how much, how slowly, and what happens when it is taken."""

from __future__ import annotations

import contextlib
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import anyio
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kmesh.core.options import Listen
from kmesh.tasks import admin
from kmesh.tasks.admin import AdminServer, endless, refused, trusted
from kmesh.tasks.pods import MOST_BYTES, answer, content

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.anyio


async def show(_: web.Request) -> web.Response:
    return answer({"shown": True})


async def take(request: web.Request) -> web.Response:
    return answer(await content(request))


async def stuck(_: web.Request) -> web.Response:
    await anyio.sleep_forever()
    return answer(None)


@endless
async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(3):
        await response.write(b"%d\n" % number)
        await anyio.sleep(0.1)
    return response


async def until(holds: Callable[[], bool]) -> None:
    deadline = anyio.current_time() + 5
    while not holds():
        assert anyio.current_time() < deadline
        await anyio.sleep(0.01)


ROUTES = [
    web.get("/show", show), web.post("/take", take), web.get("/stuck", stuck),
    web.get("/stream", stream),
]  # fmt: skip


@asynccontextmanager
async def served(host: str = "127.0.0.1") -> AsyncIterator[tuple[AdminServer, int]]:
    server = AdminServer(Listen(host, 0), ROUTES)
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.run)
        yield server, int(server.listening[0].rpartition(":")[2])
        tasks.cancel_scope.cancel()


async def ask(
    port: int, path: str = "/show", method: str = "GET", data: bytes | None = None, **headers: str
) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as client,
        client.request(
            method, f"http://127.0.0.1:{port}{path}", headers=named, data=data
        ) as response,
    ):
        return response.status


async def test_tools_may_ask() -> None:
    async with served() as (_, port):
        assert await ask(port) == 200
        assert await ask(port, Host=f"localhost:{port}") == 200
        assert await ask(port, Host=f"[::1]:{port}") == 200
        assert await ask(port, "/take", "POST", b"{}") == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:15200", "", "a b", "[::1"]
)
async def test_a_name_that_somebody_else_resolves_is_refused(host: str) -> None:
    async with served() as (_, port):
        assert await ask(port, Host=host) in (400, 403)
    assert not trusted(host)


async def test_other_pages_are_refused() -> None:
    async with served() as (_, port):
        own = f"http://127.0.0.1:{port}"
        assert await ask(port, "/take", "POST", b"{}", Origin=own) == 200
        assert await ask(port, "/take", "POST", b"{}", Origin="http://evil.example") == 403
        assert await ask(port, "/take", "POST", b"{}", Origin="null") == 403
        assert await ask(port, "/take", "POST", b"{}", Origin=f"http://127.0.0.1:{port + 1}") == 403
        assert await ask(port, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors") == 403
        assert await ask(port, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") == 200
        form = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        assert await ask(port, "/take", "POST", b"{}", **form) == 403
        assert await ask(port, "/take", "POST", b"{}", Sec_Fetch_Site="same-site") == 403
        assert await ask(port, "/take", "POST", b"{}", Sec_Fetch_Site="same-origin") == 200


@given(st.text(max_size=40))
def test_only_addresses_and_localhost_are_trusted(host: str) -> None:
    if trusted(host):
        bare = host.lower()
        assert "localhost" in bare or any(c.isdigit() or c == ":" for c in bare)
    assert not refused("GET", "127.0.0.1", {})


async def test_bodies_and_heads_are_bounded() -> None:
    async with served() as (_, port):
        assert await ask(port, "/take", "POST", b'"' + b"x" * MOST_BYTES + b'"') == 413
        assert await ask(port, "/show?" + "x" * 10_000) == 400
        assert await ask(port, X="x" * 10_000) == 400
        assert await ask(port) == 200


async def test_a_client_that_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "HEAD_WITHIN", 0.2)
    async with served() as (server, port), await anyio.connect_tcp("127.0.0.1", port) as slow:
        await slow.send(b"GET /show HTTP/1.1\r\nHost: local")
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await slow.receive()
        assert server.statistics().late == 1
        assert await ask(port) == 200


async def test_an_answer_that_takes_longer_than_a_head_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin, "HEAD_WITHIN", 0.1)
    async with (
        served() as (_, port),
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{port}/stream") as response,
    ):
        assert await response.read() == b"0\n1\n2\n"


async def test_too_many_connections_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "MOST_CONNECTIONS", 3)
    async with served() as (server, port), contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            held = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
            await held.send(b"GET ")
        more = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await more.receive()
        assert server.statistics()[:3] == (3, 3, 1)


async def test_an_answer_that_never_comes_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "ANSWER_WITHIN", 0.1)
    async with (
        served() as (_, port),
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{port}/stuck") as response,
    ):
        assert response.status == 503
        assert (await response.json())["code"] == "KM1602"


async def test_localhost_is_both_families() -> None:
    async with served("localhost") as (server, _):
        assert {each.rpartition(":")[0] for each in server.listening} == {"127.0.0.1", "[::1]"}


async def test_an_address_that_is_taken_is_had_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admin, "AGAIN", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = AdminServer(Listen("127.0.0.1", port), ROUTES)
        async with anyio.create_task_group() as tasks:
            await tasks.start(server.run)
            assert server.listening == []
            taken.close()
            await until(lambda: bool(server.listening))
            assert await ask(port) == 200
            tasks.cancel_scope.cancel()
    assert "no admin API" in caplog.text
