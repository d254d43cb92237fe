"""A listener: who may ask, how much, how slowly, how it says no, and an address that is taken."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import anyio
import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kmesh.core.options import Listen
from kmesh.tasks import admin, listener, pods
from kmesh.tasks.listener import Limits, Listener, refused, serving, trusted
from kmesh.tasks.problems import SAFETY, answer, content
from kmesh.tasks.stream import endless
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from kmesh.tasks.gate import GateStatistics

pytestmark = pytest.mark.anyio
KINDS = {"admin": admin.LIMITS, "outside": Limits(), "socket": pods.LIMITS}


async def show(_: web.Request) -> web.Response:
    return answer({"shown": True})


async def take(request: web.Request) -> web.Response:
    return answer(await content(request))


async def stuck(_: web.Request) -> web.Response:
    await anyio.sleep_forever()
    return answer(None)


async def broken(_: web.Request) -> web.Response:
    raise ValueError("a secret of the agent")


@endless
async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(3):
        await response.write(b"%d\n" % number)
        await anyio.sleep(0.1)
    return response


@endless
async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half")
    raise ValueError("and no more")


ROUTES = [
    web.get("/show", show), web.post("/take", take), web.get("/stuck", stuck),
    web.get("/stream", stream), web.get("/broken", broken), web.get("/half", half),
]  # fmt: skip


class Reply(NamedTuple):
    """What came back; ``problem`` is the document of a failure."""

    status: int
    headers: Any
    body: bytes

    @property
    def code(self) -> str:
        """The code of a problem that has all its parts."""
        assert self.headers["Content-Type"] == "application/json"
        found = orjson.loads(self.body)
        assert set(found) == {"code", "error", "next_step"}
        return str(found["code"])


class Place:
    """A listener of one kind, and its clients."""

    def __init__(self, where: str, statistics: Callable[[], GateStatistics]) -> None:
        self.where, self.statistics = where, statistics

    def turned(self) -> dict[str, int]:
        """How many clients were turned away, by the reason."""
        return {reason: count for reason, count in self.statistics().turned.items() if count}

    async def ask(
        self, path: str = "/show", method: str = "GET", data: bytes | None = None, **headers: str
    ) -> Reply:
        """One request; ``_`` in the name of a header stands for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        unix = self.where.startswith("/")
        connector = aiohttp.UnixConnector(self.where) if unix else None
        base = "http://localhost" if unix else f"http://{self.where}"
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.request(method, base + path, headers=named, data=data) as found,
        ):
            return Reply(found.status, found.headers, await found.read())

    async def connect(self) -> anyio.abc.ByteStream:
        """A bare connection."""
        if self.where.startswith("/"):
            return await anyio.connect_unix(self.where)
        host, _, port = self.where.rpartition(":")
        return await anyio.connect_tcp(host.strip("[]"), int(port))

    async def say(self, raw: bytes) -> bytes:
        """Bytes as they are, and everything that comes until the other end closes."""
        found = b""
        async with await self.connect() as stream:
            await stream.send(raw)
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while True:
                    found += await stream.receive()
        return found


@asynccontextmanager
async def served(limits: Limits = admin.LIMITS, host: str = "127.0.0.1") -> AsyncIterator[Place]:
    made = Listener("admin API", Listen(host, 0), ROUTES, limits)
    async with anyio.create_task_group() as tasks:
        await tasks.start(made.run)
        yield Place(made.listening[0], made.statistics)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def placed(kind: str, directory: Path, **limits: Any) -> AsyncIterator[Place]:
    found = KINDS[kind]._replace(**limits)
    if kind != "socket":
        async with served(found) as place:
            yield place
        return
    path = str(directory / "s")
    async with serving(ROUTES, found) as gate:
        server = await asyncio.get_running_loop().create_unix_server(gate, path)
        yield Place(path, gate.statistics)
        server.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_tools_may_ask(kind: str, tmp_path: Path) -> None:
    async with placed(kind, tmp_path) as place:
        for host in ("localhost:1", "127.0.0.1", "[::1]:15200"):
            assert (await place.ask(Host=host)).status == 200
        found = await place.ask("/take", "POST", b'{"a": 1}')
        assert (found.status, found.body) == (200, b'{"a":1}')


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:15200", "", "a b", "[::1"]
)
async def test_a_name_that_somebody_else_resolves_is_refused(host: str) -> None:
    async with served() as place:
        found = await place.ask(Host=host)
        assert (found.status, found.code) == (403, "KM1601")
        assert place.turned() == {"origin": 1}
    assert not trusted(host)


@pytest.mark.parametrize("limits", [admin.LIMITS, Limits()])
async def test_other_pages_are_refused(limits: Limits) -> None:
    async with served(limits) as place:
        own = f"http://{place.where}"

        async def status(method: str = "GET", **headers: str) -> int:
            path, data = ("/take", b"{}") if method == "POST" else ("/show", None)
            return (await place.ask(path, method, data, **headers)).status

        assert await status("POST", Origin=own) == 200
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"):
            assert await status("POST", Origin=origin) == 403
            assert await status(Origin=origin) == 403
        assert await status(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors") == 403
        assert await status(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors") == 403
        assert await status(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") == 200
        form = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        assert await status("POST", **form) == 403
        assert await status("POST", Sec_Fetch_Site="same-site") == 403
        assert await status("POST", Sec_Fetch_Site="same-origin") == 200


@given(st.text(max_size=40))
def test_only_addresses_and_localhost_are_trusted(host: str) -> None:
    if trusted(host):
        bare = host.lower()
        assert "localhost" in bare or any(c.isdigit() or c == ":" for c in bare)
    assert not refused("GET", {"Host": "127.0.0.1"}, named=False)


async def test_every_answer_keeps_out_of_other_pages(kind: str, tmp_path: Path) -> None:
    async with placed(kind, tmp_path) as place:
        for path in ("/show", "/nothing", "/stream", "/broken"):
            found = await place.ask(path)
            assert {name: found.headers[name] for name in SAFETY} == SAFETY, path


async def test_every_refusal_is_a_problem(kind: str, tmp_path: Path) -> None:
    long = b'"' + b"x" * KINDS[kind].body + b'"'
    async with placed(kind, tmp_path) as place:
        for path, method, data, expected in (
            ("/nothing", "GET", None, (404, "KM1603")),
            ("/../../etc/passwd", "GET", None, (404, "KM1603")),
            ("/%2e%2e/%2e%2e/etc/passwd", "GET", None, (404, "KM1603")),
            ("//etc/passwd", "GET", None, (404, "KM1603")),
            ("/show", "POST", None, (405, "KM1604")),
            ("/take", "DELETE", None, (405, "KM1604")),
            ("/take", "POST", long, (413, "KM1605")),
            ("/take", "POST", b"{", (400, "KM1606")),
            ("/take", "POST", b"[]", (400, "KM1606")),
            ("/broken", "GET", None, (500, "KM1607")),
        ):
            found = await place.ask(path, method, data)
            assert (found.status, found.code) == expected, path
            assert b"secret" not in found.body
        assert (await place.ask("/take", "PUT")).headers["Allow"] == "POST"
        assert place.turned() == {"body": 1}
        assert (await place.ask()).status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /show?" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /show HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
        b"GET /show HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_http_is_a_problem(kind: str, tmp_path: Path, raw: bytes) -> None:
    async with placed(kind, tmp_path) as place:
        head, _, body = (await place.say(raw)).partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 ")), head
        assert orjson.loads(body)["code"] == "KM1606"
        assert place.turned() == {"http": 1}
        assert b"content-type: application/json" in head.lower()
        assert (await place.ask()).status == 200


async def test_half_an_answer_never_looks_whole(kind: str, tmp_path: Path) -> None:
    async with placed(kind, tmp_path) as place:
        with pytest.raises(aiohttp.ClientPayloadError):
            await place.ask("/half")
        assert (await place.ask()).status == 200


async def test_a_client_that_says_nothing_is_let_go(kind: str, tmp_path: Path) -> None:
    async with placed(kind, tmp_path, head=1.0) as place:
        assert await place.say(b"GET /show HTTP/1.1\r\nHost: local") == b""
        assert place.turned() == {"head": 1}
        assert (await place.ask()).status == 200


async def test_an_answer_that_takes_longer_than_a_head_is_given(kind: str, tmp_path: Path) -> None:
    async with placed(kind, tmp_path, head=0.1) as place:
        assert (await place.ask("/stream")).body == b"0\n1\n2\n"


async def test_too_many_connections_are_closed_at_once(kind: str, tmp_path: Path) -> None:
    async with placed(kind, tmp_path, connections=3) as place:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                held = await stack.enter_async_context(await place.connect())
                await held.send(b"GET ")
            more = await stack.enter_async_context(await place.connect())
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await more.receive()
            assert place.statistics()[:2] == (3, 3)
            assert place.turned() == {"connections": 1}
        await eventually(lambda: place.statistics().open == 0)
        assert (await place.ask()).status == 200


async def test_an_answer_that_never_comes_is_a_problem(kind: str, tmp_path: Path) -> None:
    async with placed(kind, tmp_path, answer=0.1) as place:
        found = await place.ask("/stuck")
        assert (found.status, found.code) == (503, "KM1602")
        assert place.turned() == {"answer": 1}


async def test_localhost_is_both_families() -> None:
    made = Listener("admin API", Listen("localhost", 0), ROUTES)
    async with anyio.create_task_group() as tasks:
        await tasks.start(made.run)
        assert {each.rpartition(":")[0] for each in made.listening} == {"127.0.0.1", "[::1]"}
        for where in made.listening:
            assert (await Place(where, made.statistics).ask()).status == 200
        tasks.cancel_scope.cancel()


async def test_an_address_that_is_taken_is_had_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "AGAIN", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        made = Listener("admin API", Listen("127.0.0.1", taken.getsockname()[1]), ROUTES)
        async with anyio.create_task_group() as tasks:
            await tasks.start(made.run)
            assert made.listening == []
            taken.close()
            await eventually(lambda: bool(made.listening))
            assert (await Place(made.listening[0], made.statistics).ask()).status == 200
            tasks.cancel_scope.cancel()
    assert "no admin API" in caplog.text
