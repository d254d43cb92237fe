"""GET /events with a ring that a test fills."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import anyio
import orjson
import pytest
from aiohttp import web

from kmesh.core.live import Wanted
from kmesh.core.switches import Held
from kmesh.tasks import events
from kmesh.tasks.events import Events, TooManyFollowers
from kmesh.tasks.gate import GATE, Gate
from kmesh.tasks.problems import problems
from tests.core.test_live import DENIAL, LABELS, OUTBOUND
from tests.tasks.test_telemetry import batch
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from kmesh.core.records import Batch
    from kmesh.tasks.ring import RingReader

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeRing:
    """Tells its subscribers what a test wants."""

    def __init__(self) -> None:
        self.tells: list[Callable[[Batch], None]] = []

    def subscribe(self, tell: Callable[[Batch], None]) -> Callable[[], None]:
        self.tells.append(tell)
        return lambda: self.tells.remove(tell)

    def tell(self, *records: Any) -> None:
        for each in self.tells:
            each(batch(records))


class Bench:
    """Events over a fake ring, and the watch calls."""

    def __init__(self) -> None:
        self.ring = FakeRing()
        self.watched: list[Held] = []
        self.events = Events(cast("RingReader", self.ring), LABELS, self.watched.append)


@asynccontextmanager
async def served(bench: Bench, path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    app = web.Application(middlewares=[problems])
    app[GATE] = Gate(8, 10.0)
    app.add_routes([web.get("/events", bench.events.show)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(path / "s")).start()
    connector = aiohttp.UnixConnector(path=str(path / "s"))
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            yield session
    finally:
        await runner.cleanup()


async def test_records_arrive_as_lines_until_the_limit(tmp_path: Path) -> None:
    bench = Bench()
    async with served(bench, tmp_path) as session, anyio.create_task_group() as tasks:
        lines: list[Any] = []

        async def follow() -> None:
            async with session.get("http://k/events?limit=3") as response:
                assert response.content_type == "application/x-ndjson"
                lines.extend([orjson.loads(line) async for line in response.content])

        tasks.start_soon(follow)
        await eventually(lambda: bool(bench.ring.tells))
        bench.ring.tell(DENIAL, OUTBOUND)
        bench.ring.tell(OUTBOUND, DENIAL)
    assert [each["kind"] for each in lines] == ["denied", "close", "close"]
    assert bench.events.statistics()._replace(sent=0) == (0, 0, 0, 0, 0)


async def test_only_what_was_asked_for(tmp_path: Path) -> None:
    bench = Bench()
    async with served(bench, tmp_path) as session, anyio.create_task_group() as tasks:
        lines: list[Any] = []

        async def follow() -> None:
            async with session.get("http://k/events?limit=2&denied=true&pod=client") as response:
                lines.extend([orjson.loads(line) async for line in response.content])

        tasks.start_soon(follow)
        await eventually(lambda: bool(bench.ring.tells))
        bench.ring.tell(OUTBOUND, DENIAL, OUTBOUND, DENIAL)
    assert [each["kind"] for each in lines] == ["denied", "denied"]


def test_the_programs_record_no_more_than_somebody_reads() -> None:
    bench = Bench()
    denied = Wanted(denied=True)
    with bench.events.follow(denied):
        with bench.events.follow(denied), bench.events.follow(Wanted(pod="client")):
            pass
        assert bench.watched == [Held.REFUSALS, Held.ALL, Held.REFUSALS]
    assert bench.watched[-1] is Held.NOTHING


async def test_nobody_follows_the_ring_for_nobody(tmp_path: Path) -> None:
    bench = Bench()
    with bench.events.follow(Wanted()), bench.events.follow(Wanted()):
        assert len(bench.ring.tells) == 1
        assert bench.watched == [Held.ALL]
    assert bench.ring.tells == []
    assert bench.watched == [Held.ALL, Held.NOTHING]
    async with served(bench, tmp_path) as session:
        response = await session.get("http://k/events")
        await eventually(lambda: bool(bench.ring.tells))
        response.close()
        bench.ring.tell(DENIAL)
        await eventually(lambda: not bench.ring.tells)


async def test_a_slow_follower_is_told_what_it_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 2)
    bench = Bench()
    with bench.events.follow(Wanted()) as slow, bench.events.follow(Wanted(denied=True)) as other:
        bench.ring.tell(OUTBOUND, OUTBOUND, OUTBOUND, DENIAL)
        found = slow.take()
        assert found[0] == {"dropped": 2}
        assert [each["kind"] for each in found[1:]] == ["close", "denied"]
        assert [each["kind"] for each in other.take()] == ["denied"]
        assert slow.take() == []
    assert bench.events.statistics().dropped == 2


async def test_a_follower_that_reads_nothing_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "WRITE_WITHIN", 0.2)
    bench = Bench()
    async with served(bench, tmp_path):
        stream = await anyio.connect_unix(str(tmp_path / "s"))
        async with stream:
            await stream.send(b"GET /events HTTP/1.1\r\nHost: k\r\n\r\n")
            await eventually(lambda: bool(bench.ring.tells))
            many = [DENIAL] * 512
            with anyio.fail_after(60):
                while bench.ring.tells:
                    bench.ring.tell(*many)
                    await anyio.sleep(0.01)
    found = bench.events.statistics()
    assert (found.followers, found.ended) == (0, 1)
    assert found.dropped > 0


async def test_there_is_a_most_of_followers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "FOLLOWERS", 1)
    bench = Bench()
    with bench.events.follow(Wanted()):
        with pytest.raises(TooManyFollowers), bench.events.follow(Wanted()):
            pass
        async with served(bench, tmp_path) as session:
            response = await session.get("http://k/events")
            assert response.status == 400
            assert (await response.json())["code"] == "KM1706"
    with bench.events.follow(Wanted()):
        pass


@pytest.mark.parametrize("limit", ["-1", "x", "1e3", "²", "9" * 30])
async def test_a_wrong_limit(tmp_path: Path, limit: str) -> None:
    bench = Bench()
    async with served(bench, tmp_path) as session:
        response = await session.get("http://k/events", params={"limit": limit})
        assert response.status == 400
        assert "is no number" in (await response.json())["error"]


async def test_silence_is_broken_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BEAT", 0.01)
    bench = Bench()
    async with served(bench, tmp_path) as session, session.get("http://k/events") as response:
        assert await response.content.readline() == b"\n"


async def test_nothing_is_spelt_out_that_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, spelt = Bench(), list[Any]()

    def note(record: Any, *_: Any) -> dict[str, Any]:
        spelt.append(record)
        return {}

    monkeypatch.setattr(events, "view", note)
    wanted = Wanted(pod="client"), Wanted(pod="client"), Wanted(pod="nobody")
    with ExitStack() as stack:
        followers = [stack.enter_context(bench.events.follow(each)) for each in wanted]
        bench.ring.tell(OUTBOUND, OUTBOUND)
        assert [len(each.waiting) for each in followers] == [2, 2, 0]
        assert len(spelt) == 2, "once for all who ask"
    with bench.events.follow(Wanted(service="other")):
        bench.ring.tell(OUTBOUND, DENIAL)
    assert len(spelt) == 2
