"""The client against peers that break, die or lie. Every end is counted and followed by the next
attempt; nothing of it ends the client."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trustme
from h2.errors import ErrorCodes
from h2.events import PingReceived, RequestReceived, StreamReset

from kmesh.core.events import ADDRESS
from tests.tasks.xds_peers import PATIENCE, Harness, Peer, raw, response, running

pytestmark = pytest.mark.anyio

GOOD = response("+a v1")
CUT = response(*(f"+pod-{index} v1" for index in range(20_000)))[:200_000]


async def goaway(peer: Peer) -> None:
    await peer.ok()
    peer.h2.close_connection(ErrorCodes.NO_ERROR, additional_data=b"max_age")
    peer.flush()


async def goaway_graceful(peer: Peer) -> None:
    await peer.ok()
    peer.h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=2**31 - 1)
    peer.flush()


async def reset(peer: Peer) -> None:
    await peer.ok()
    peer.h2.reset_stream(1, ErrorCodes.ENHANCE_YOUR_CALM)
    peer.flush()


async def abort(peer: Peer) -> None:
    await peer.ok()
    peer.writer.transport.abort()


async def abort_before_the_request(peer: Peer) -> None:
    peer.writer.transport.abort()


async def status_then_half_open(peer: Peer) -> None:
    await peer.ok()
    peer.trailers(8, "slow%20down")


async def status_then_reset(peer: Peer) -> None:
    await peer.ok()
    peer.trailers(14, "not ready")
    peer.h2.reset_stream(1, ErrorCodes.NO_ERROR)
    peer.flush()


async def trailers_only(peer: Peer) -> None:
    await peer.until(RequestReceived)
    fields = [(":status", "200"), ("content-type", "application/grpc")]
    fields += [("grpc-status", "7"), ("grpc-message", "no such token")]
    peer.h2.send_headers(1, fields, end_stream=True)
    peer.flush()


async def unknown_status(peer: Peer) -> None:
    await peer.ok()
    peer.trailers(99, "?")


async def clean_end(peer: Peer) -> None:
    await peer.ok()
    peer.message(GOOD)
    peer.trailers(0, "")


async def end_without_status(peer: Peer) -> None:
    await peer.ok()
    peer.h2.end_stream(1)
    peer.flush()


async def http_error(peer: Peer) -> None:
    await peer.until(RequestReceived)
    peer.h2.send_headers(1, [(":status", "503"), ("content-type", "text/html")])
    peer.h2.send_data(1, b"<html>no healthy upstream</html>", end_stream=True)
    peer.flush()


async def http_error_without_body(peer: Peer) -> None:
    await peer.until(RequestReceived)
    peer.h2.send_headers(1, [(":status", "404")], end_stream=True)
    peer.flush()


async def truncated(peer: Peer) -> None:
    await peer.ok()
    peer.message(CUT, length=len(CUT) + 100)
    peer.h2.end_stream(1)
    peer.flush()


async def truncated_prefix(peer: Peer) -> None:
    await peer.ok()
    peer.h2.send_data(1, b"\0\0", end_stream=True)
    peer.flush()


async def four_gigabytes(peer: Peer) -> None:
    await peer.ok()
    peer.message(b"x", length=0xFFFFFFFF)


async def compressed(peer: Peer) -> None:
    await peer.ok()
    peer.message(GOOD, flags=1)


async def garbage_message(peer: Peer) -> None:
    await peer.ok()
    peer.message(b"no such line\n")


async def http_1(peer: Peer) -> None:
    peer.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def bad_frame(peer: Peer) -> None:
    await peer.ok()
    peer.frame(0x8, bytes(3))  # WINDOW_UPDATE has four bytes


async def header_not_ascii(peer: Peer) -> None:
    await peer.until(RequestReceived)
    peer.h2.send_headers(1, [(":status", "200"), ("x-region", "\N{SNOWMAN}")])
    peer.flush()


Script = Callable[[Peer], Awaitable[None]]

ENDINGS = [
    (goaway, "goaway", "GOAWAY, NO_ERROR, max_age"),
    (goaway_graceful, "goaway", "GOAWAY, NO_ERROR"),
    (reset, "reset", "ENHANCE_YOUR_CALM"),
    (abort, "lost", "connection lost"),
    (abort_before_the_request, "lost", "connection lost"),
    (status_then_half_open, "status-resource-exhausted", "RESOURCE_EXHAUSTED: slow down"),
    (status_then_reset, "status-unavailable", "not ready"),
    (trailers_only, "status-permission-denied", "no such token"),
    (unknown_status, "status-99", "says 99"),
    (clean_end, "ended", "ended the stream"),
    (end_without_status, "protocol", "without a gRPC status"),
    (http_error, "protocol", "HTTP status 503"),
    (http_error_without_body, "protocol", "HTTP status 404"),
    (truncated, "truncated", "inside a message"),
    (truncated_prefix, "truncated", "inside a message"),
    (four_gigabytes, "oversize", "4294967295 bytes"),
    (compressed, "compressed", "compression flag 1"),
    (garbage_message, "decode", "not a line: 'no such line'"),
    (http_1, "protocol", "no HTTP/2: b'HTTP'"),
    (bad_frame, "protocol", "HTTP/2"),
    (header_not_ascii, "protocol", "ascii"),
]


@pytest.mark.parametrize(
    ("script", "reason", "text"), ENDINGS, ids=lambda it: getattr(it, "__name__", "")
)
async def test_every_end_is_named_and_followed_by_the_next_attempt(
    script: Script, reason: str, text: str
) -> None:
    connections = 0

    async def twice(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await script(peer)

    async with raw(twice, greets=script is not http_1) as port, running(Harness(port)) as harness:
        await harness.until_end(reason)
        assert text in harness.error
        await harness.until(lambda: harness.ends(reason) >= 2)
    assert connections >= 2
    assert not harness.client.statistics().connected


async def test_parts_of_a_truncated_message_are_held_and_claimed() -> None:
    async with raw(truncated) as port, running(Harness(port)) as harness:
        await harness.until(lambda: harness.ends("truncated") >= 1)
    held = harness.session.held(ADDRESS)
    assert len(held) > 100
    assert list(held) == harness.names[: len(held)]
    assert harness.commits == []
    assert harness.session.statistics()[ADDRESS].responses == 0


async def test_an_oversized_message_resets_the_stream() -> None:
    gone = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.ok()
        peer.message(b"", length=101)
        event = await peer.until(StreamReset)
        assert event.error_code == ErrorCodes.CANCEL
        gone.set()

    async with raw(script) as port, running(Harness(port, max_message=100)) as harness:
        with anyio.fail_after(PATIENCE):
            await gone.wait()
        await harness.until_end("oversize")


async def test_frames_that_mean_nothing_are_counted_and_passed_over() -> None:
    async def script(peer: Peer) -> None:
        await peer.ok()
        peer.frame(0xEE, b"extension", stream=1)
        peer.frame(0xA, b"\0\0h2=:1", stream=1)  # ALTSVC
        peer.frame(0x0, b"", stream=1)  # empty DATA
        peer.frame(0x0, b"\3\0\0\0", flags=0x8, stream=1)  # DATA that is nothing but padding
        peer.h2.ping(bytes(8))
        peer.message(GOOD)
        peer.frame(0x0, b"", stream=1)
        peer.message(response("+b v1"))
        await peer.until(RequestReceived)

    async with raw(script) as port, running(Harness(port)) as harness:
        await harness.until(lambda: len(harness.commits) == 2)
        assert harness.client.statistics().ends == {}
    assert harness.names == ["a", "b"]
    assert harness.client.statistics().unknown_frames >= 1


async def test_a_message_that_came_before_the_connection_died_is_read() -> None:
    async def script(peer: Peer) -> None:
        await peer.ok()
        peer.message(GOOD)
        peer.h2.close_connection()
        peer.flush()

    async with raw(script) as port, running(Harness(port)) as harness:
        await harness.until(lambda: harness.ends("goaway") > 0)
    assert "a" in harness.session.held(ADDRESS)


async def test_a_silent_peer_is_noticed_by_pings() -> None:
    silence = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.ok()
        peer.message(GOOD)
        await silence.wait()

    async with raw(script) as port:
        harness = Harness(port, keepalive=0.05, keepalive_timeout=0.05)
        async with running(harness):
            await harness.until_end("keepalive")
            found = harness.client.statistics()
        silence.set()
    assert harness.names[0] == "a"
    assert "silent for 0.1 s" in harness.error
    assert not found.connected
    assert 0 < found.last_heard < found.since


async def test_a_peer_that_answers_pings_is_kept() -> None:
    pings = 0

    async def script(peer: Peer) -> None:
        nonlocal pings
        await peer.ok()
        while True:
            await peer.until(PingReceived)
            pings += 1
            if pings == 5:
                peer.message(GOOD)

    async with raw(script) as port:
        harness = Harness(port, keepalive=0.01, keepalive_timeout=PATIENCE)
        async with running(harness):
            await harness.until(lambda: bool(harness.commits))
            found = harness.client.statistics()
    assert found.ends == {}
    assert found.connected
    assert pings >= 5


async def test_answers_to_pings_are_heard_where_no_message_comes() -> None:
    third = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.ok()
        for _ in range(3):
            await peer.until(PingReceived)
        third.set()
        await peer.until(PingReceived)

    options: dict[str, Any] = {"keepalive": 0.01, "keepalive_timeout": PATIENCE}
    async with raw(script) as port, running(Harness(port, **options)) as harness:
        with anyio.fail_after(PATIENCE):
            await third.wait()
        found = harness.client.statistics()
    assert found.connected
    assert found.last_message == 0
    assert found.last_heard > found.since


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        async with running(Harness(taken.getsockname()[1])) as harness:
            await harness.until_end("connect")
            await harness.until(lambda: harness.ends("connect") >= 3)
    assert "127.0.0.1" in harness.error
    assert "what the kernel holds stays in force" in harness.error


async def test_a_peer_that_never_shakes_hands_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        authority = trustme.CA().cert_pem.bytes().decode()
        harness = Harness(port, tls=True, root_ca=authority, connect_timeout=0.05)
        async with running(harness):
            await harness.until_end("connect-timeout")
            await harness.until(lambda: harness.ends("connect-timeout") >= 2)


async def test_a_name_that_cannot_be_resolved() -> None:
    """A label of 64 characters fails before anything is asked of a name server."""
    name = f"{'a' * 64}.invalid"
    async with running(Harness(1, host=name)) as harness:
        await harness.until_end("dns")
        await harness.until(lambda: harness.ends("dns") >= 2)
    assert name in harness.error
