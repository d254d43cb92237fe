"""The client against a good control plane: real gRPC over real sockets, plaintext and TLS."""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trustme

from kmesh.core.delta import LATE
from kmesh.core.events import ADDRESS, AUTHORIZATION, Applied
from kmesh.core.options import Target, XdsOptions
from kmesh.tasks import credentials
from tests.tasks.xds_peers import (
    NODE,
    PATIENCE,
    Call,
    Harness,
    LineReader,
    plane,
    response,
    running,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


class Scripted:
    """Remembers what its streams asked for; answers both types with the lines it has."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        self.firsts: list[dict[str, object]] = []
        self.answers: list[dict[str, object]] = []
        self.metadata: list[dict[str, str]] = []
        self.answered = anyio.Event()

    async def __call__(self, call: Call) -> None:
        self.metadata.append(call.metadata)
        self.firsts += [await call.request(), await call.request()]
        await call.send(*self.lines, nonce="a")
        self.answers.append(await call.request())
        await call.send(type_url=AUTHORIZATION, nonce="p")
        self.answers.append(await call.request())
        self.answered.set()
        await call.ended()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_stream_from_first_request_to_synced(host: str) -> None:
    script = Scripted("+a v1", "+b v2", "!c no uid")
    async with plane(script, host=host) as port, running(Harness(port, host=host)) as harness:
        await script.answered.wait()
        statistics = harness.client.statistics()
    assert [first["type_url"] for first in script.firsts] == [ADDRESS, AUTHORIZATION]
    assert all(first["node"] == NODE.id and not first["subscribe"] for first in script.firsts)
    assert script.metadata[0]["clusterid"] == "east"
    assert "authorization" not in script.metadata[0]
    address, policies = script.answers
    assert (address["nonce"], address["error"], address["node"]) == ("a", "c: no uid", None)
    assert (policies["nonce"], policies["error"]) == ("p", "")
    assert harness.names == ["a", "b"]
    assert [commit.complete for commit in harness.commits] == [True, True]
    assert (statistics.connected, statistics.synced) == (True, True)
    assert (statistics.messages_in, statistics.messages_out) == (2, 4)
    assert (
        statistics.bytes_in
        == statistics.types[ADDRESS].bytes + statistics.types[AUTHORIZATION].bytes
    )
    assert statistics.last_message >= statistics.since > 0
    assert not harness.client.statistics().connected


async def test_nothing_is_answered_before_the_writer_applied_it() -> None:
    told = anyio.Event()
    answers: list[dict[str, object]] = []

    async def script(call: Call) -> None:
        await call.request()
        await call.request()
        await call.send("+a v1", nonce="one")
        await call.send("+b v1", nonce="two")
        answers.extend([await call.request(), await call.request()])
        told.set()
        await call.ended()

    async with plane(script) as port:
        harness = Harness(port)
        harness.apply_at_once = False
        async with running(harness):
            await harness.until(lambda: len(harness.commits) == 2)
            assert answers == []
            harness.client.applied(Applied(2, {"b": "table full"}))
            await told.wait()
    assert [(answer["nonce"], answer["error"]) for answer in answers] == [
        ("one", ""),
        ("two", "b: table full"),
    ]


async def test_a_late_writer_means_a_nack_and_then_an_ack() -> None:
    answers: list[dict[str, object]] = []
    nacked, acked = anyio.Event(), anyio.Event()

    async def script(call: Call) -> None:
        await call.request()
        await call.request()
        await call.send("+a v1")
        answers.append(await call.request())
        nacked.set()
        answers.append(await call.request())
        acked.set()
        await call.ended()

    async with plane(script) as port:
        harness = Harness(port, apply_deadline=0.02)
        harness.apply_at_once = False
        async with running(harness):
            await nacked.wait()
            harness.client.applied(Applied(1, {}))
            await acked.wait()
            assert harness.client.statistics().late == 1
    assert [answer["error"] for answer in answers] == [LATE, ""]


async def test_parts_are_offered_while_the_message_is_still_on_its_way() -> None:
    lines = [f"+pod-{index} version-{index}" for index in range(20_000)]

    async with plane(Scripted(*lines)) as port, running(Harness(port)) as harness:
        await harness.until(lambda: bool(harness.commits))
    assert len(harness.names) == len(lines)
    # 540 kB in pieces of at most 128 KiB.
    assert len(harness.offers) >= 4


async def test_a_restarted_control_plane_gets_the_claims() -> None:
    script, again = Scripted("+a v1", "+b v2"), Scripted("-b", "+c v1")
    first = AsyncExitStack()
    port = await first.enter_async_context(plane(script))
    harness = Harness(port)
    async with running(harness):
        await script.answered.wait()
        await first.aclose()
        await harness.until(lambda: harness.ends("connect") > 0)
        async with plane(again, port=port):
            await again.answered.wait()
    assert again.firsts[0]["initial_versions"] == {"a": "v1", "b": "v2"}
    assert set(harness.session.held(ADDRESS)) == {"a", "c"}


@pytest.mark.parametrize("size", [10, 30_000])
async def test_claims_of_any_size_reach_the_control_plane(size: int) -> None:
    """30,000 claims are a request of about 1 MiB, larger than one flow-control window."""
    script = Scripted()
    harness_lines = [f"+pod-{index} version-{index}" for index in range(size)]
    async with plane(script) as port:
        harness = Harness(port)
        reader = LineReader()
        harness.session.part(*reader.batches(response(*harness_lines)))
        async with running(harness):
            await script.answered.wait()
    versions = script.firsts[0]["initial_versions"]
    assert isinstance(versions, dict)
    assert len(versions) == size
    assert versions["pod-7"] == "version-7"


async def test_cancellation_resets_the_stream() -> None:
    gone = anyio.Event()

    async def script(call: Call) -> None:
        try:
            await call.request()
            await call.request()
            await call.send("+a v1")
            await call.request()
            await call.ended()
        finally:
            gone.set()

    async with plane(script) as port:
        harness = Harness(port)
        async with running(harness):
            await harness.until(lambda: bool(harness.commits))
        with anyio.fail_after(PATIENCE):
            await gone.wait()
    assert harness.client.statistics().ends == {}


# --- TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    context.set_alpn_protocols(["h2"])
    return context


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


async def test_token_and_root_are_read_again_for_every_connection(
    authority: trustme.CA, tmp_path: Path
) -> None:
    root, token = tmp_path / "root.pem", tmp_path / "token"
    token.write_text("one\n")
    tokens: list[str] = []
    seen = [anyio.Event(), anyio.Event()]
    release = anyio.Event()

    async def script(call: Call) -> None:
        await call.request()
        tokens.append(call.metadata["authorization"])
        seen[len(tokens) - 1].set()
        if len(tokens) == 1:
            await release.wait()
            return
        await call.ended()

    context = server_context(authority, "127.0.0.1")
    async with plane(script, context=context) as port:
        harness = Harness(port, tls=True, root_ca=str(root), token=str(token))
        async with running(harness):
            await harness.until_end("credentials")
            assert f"root certificate {root}: no such file" in harness.error
            assert "XDS_ROOT_CA" in harness.error
            root.write_text(pem(authority))
            await seen[0].wait()
            token.write_text("two\n")
            release.set()
            await seen[1].wait()
    assert tokens == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize(
    ("setting", "reason", "text"),
    [
        ({"root_ca": "-----BEGIN CERTIFICATE-----\nx"}, "credentials", "XDS_ROOT_CA holds no"),
        ({"token": "/no/such/token"}, "credentials", "token /no/such/token: no such file"),
        ({"token": "two words"}, "credentials", "AUTH_TOKEN holds no single word"),
        ({"root_ca": "SYSTEM"}, "tls", "self"),
        ({"server_name": "istiod.example"}, "tls", "istiod.example"),
    ],
)
async def test_unusable_credentials_are_named_and_tried_again(
    authority: trustme.CA, setting: dict[str, str], reason: str, text: str
) -> None:
    context = server_context(authority, "127.0.0.1")
    async with plane(Scripted(), context=context) as port:
        options: dict[str, Any] = {"tls": True, "root_ca": pem(authority), **setting}
        harness = Harness(port, **options)
        async with running(harness):
            await harness.until_end(reason)
            await harness.until(lambda: harness.ends(reason) >= 2)
    assert text in harness.error


async def test_another_name_in_the_certificate_is_accepted_when_configured(
    authority: trustme.CA,
) -> None:
    script = Scripted()
    async with plane(script, context=server_context(authority, "istiod.example")) as port:
        harness = Harness(port, tls=True, root_ca=pem(authority), server_name="istiod.example")
        async with running(harness):
            await script.answered.wait()


@pytest.mark.parametrize("allowed", [False, True])
async def test_tls_1_2_only_when_configured(authority: trustme.CA, allowed: bool) -> None:
    script = Scripted()
    context = server_context(authority, "127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with plane(script, context=context) as port:
        harness = Harness(port, tls=True, root_ca=pem(authority), tls12=allowed)
        async with running(harness):
            if allowed:
                await script.answered.wait()
            else:
                await harness.until_end("tls")


async def test_a_server_without_http2_is_refused(authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with plane(Scripted(), context=context) as port:
        harness = Harness(port, tls=True, root_ca=pem(authority))
        async with running(harness):
            await harness.until_end("tls")
    assert "ALPN" in harness.error


def test_a_token_never_crosses_the_network_in_the_clear() -> None:
    options = XdsOptions(target=Target(False, "127.0.0.1", 1), token="secret")
    assert credentials.token(options) == ""
