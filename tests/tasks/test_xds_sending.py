"""Large requests to peers that take little at a time, stop taking or end in the middle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived
from h2.settings import SettingCodes

from kmesh.core.events import ADDRESS
from tests.tasks.xds_peers import PATIENCE, Harness, LineReader, Peer, raw, response, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

CLAIMS = 8000  # a request of four times the window that a peer starts with
MOST = 2**31 - 1


def holding(port: int) -> Harness:
    """A client that claims a lot."""
    harness = Harness(port)
    lines = [f"+pod-{index} version-{index:030}" for index in range(CLAIMS)]
    harness.session.part(*LineReader().batches(response(*lines)))
    return harness


async def blocked(peer: Peer) -> bytearray:
    """Take as much of the request as the first window allows, and give nothing back."""
    got = bytearray()
    while len(got) < 65535:
        for event in peer.h2.receive_data(await peer.read()):
            if isinstance(event, DataReceived):
                got += event.data
    return got


async def first_request(
    peer: Peer, give_back: Callable[[int], None], got: bytearray
) -> dict[str, Any]:
    """All of it, of which ``got`` is known; ``give_back`` is told the size of each frame. h2
    refuses what no window allows."""
    while len(got) < 5 or len(got) < 5 + int.from_bytes(got[1:5]):
        for event in peer.h2.receive_data(await peer.read()):
            if isinstance(event, DataReceived):
                got += event.data
                give_back(event.flow_controlled_length or 0)
        peer.flush()
    found: dict[str, Any] = json.loads(got[5 : 5 + int.from_bytes(got[1:5])])
    return found


@pytest.mark.parametrize("window", [900, 20_000, 300_000])
@pytest.mark.parametrize("longest", [16384, 50_000])
async def test_small_windows_and_long_frames(window: int, longest: int) -> None:
    requests: list[dict[str, Any]] = []
    done, largest = anyio.Event(), 0

    async def script(peer: Peer) -> None:
        sizes: dict[SettingCodes | int, int] = {
            SettingCodes.INITIAL_WINDOW_SIZE: window,
            SettingCodes.MAX_FRAME_SIZE: longest,
        }
        peer.h2.update_settings(sizes)
        peer.flush()

        def give_back(size: int) -> None:
            nonlocal largest
            largest = max(largest, size)
            for part in filter(None, (size // 3, size - size // 3)):
                peer.h2.increment_flow_control_window(part)
                peer.h2.increment_flow_control_window(part, 1)

        requests.append(await first_request(peer, give_back, bytearray()))
        done.set()

    async with raw(script) as port, running(holding(port)):
        with anyio.fail_after(PATIENCE):
            await done.wait()
    assert requests[0]["type_url"] == ADDRESS
    assert len(requests[0]["initial_versions"]) == CLAIMS
    assert largest <= longest


async def test_a_window_that_shrinks_below_what_was_sent() -> None:
    done = anyio.Event()

    async def script(peer: Peer) -> None:
        got = await blocked(peer)
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
        peer.h2.increment_flow_control_window(1 << 20)
        peer.h2.increment_flow_control_window(1 << 20, 1)
        peer.flush()
        await first_request(peer, lambda size: None, got)
        done.set()

    async with raw(script) as port, running(holding(port)):
        with anyio.fail_after(PATIENCE):
            await done.wait()


async def reset(peer: Peer) -> None:
    await blocked(peer)
    peer.h2.reset_stream(1, ErrorCodes.REFUSED_STREAM)
    peer.flush()


async def goaway(peer: Peer) -> None:
    await blocked(peer)
    peer.h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
    peer.flush()


async def connection_window_overflows(peer: Peer) -> None:
    await blocked(peer)
    for _ in range(2):
        peer.frame(8, MOST.to_bytes(4, "big"))


async def stream_window_overflows(peer: Peer) -> None:
    await peer.until(RequestReceived)
    peer.frame(8, MOST.to_bytes(4, "big"), stream=1)


async def nothing_more(peer: Peer) -> None:
    await blocked(peer)
    peer.writer.transport.abort()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (reset, "reset"),
        (goaway, "goaway"),
        (connection_window_overflows, "protocol"),
        (stream_window_overflows, "protocol"),
        (nothing_more, "lost"),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
async def test_ends_while_a_request_is_on_its_way(
    script: Callable[[Peer], Awaitable[None]], reason: str
) -> None:
    async with raw(script) as port, running(holding(port)) as harness:
        await harness.until_end(reason)
        await harness.until(lambda: harness.ends(reason) >= 2)
    assert len(harness.session.held(ADDRESS)) == CLAIMS


async def test_a_peer_that_takes_nothing_more_is_still_listened_to() -> None:
    async def script(peer: Peer) -> None:
        await blocked(peer)
        peer.h2.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
        peer.message(response("+new v1"))

    async with raw(script) as port, running(holding(port)) as harness:
        await harness.until(lambda: "new" in harness.names)
        assert harness.client.statistics().connected
