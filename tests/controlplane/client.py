"""A small delta client on grpclib, for tests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from grpclib.client import Channel, Stream
from grpclib.const import Cardinality

from kmesh.controlplane.server import METHOD, RawCodec
from kmesh.wire.gen.envoy.config.core.v3 import Node
from kmesh.wire.gen.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
)
from kmesh.wire.gen.google.rpc import Status

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

DEADLINE = 20


class DeltaClient:
    """Requests and responses of one stream; every receive has a deadline."""

    def __init__(self, stream: Stream[bytes, bytes]) -> None:
        self._stream = stream

    async def ask(
        self, type_url: str, *, node: str = "test", claims: Mapping[str, str] | None = None
    ) -> None:
        """The first request of a type."""
        request = DeltaDiscoveryRequest(
            type_url=type_url, initial_resource_versions=dict(claims or {})
        )
        if node:
            request.node = Node(id=node)
        await self._stream.send_message(bytes(request))

    async def answer(self, response: DeltaDiscoveryResponse, error: str | None = None) -> None:
        """ACK, or NACK with a reason."""
        request = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if error is not None:
            request.error_detail = Status(message=error)
        await self._stream.send_message(bytes(request))

    async def raw(self, data: bytes) -> None:
        """Any bytes as a message."""
        await self._stream.send_message(data)

    async def receive(self) -> DeltaDiscoveryResponse:
        """The next response; fails when the stream ends."""
        with anyio.fail_after(DEADLINE):
            data = await self._stream.recv_message()
            if data is None:
                await self._stream.recv_trailing_metadata()
                raise AssertionError("the server ended the stream")
            return DeltaDiscoveryResponse.parse(data)

    async def first(self, type_url: str, **options: object) -> DeltaDiscoveryResponse:
        """Ask, take the answer, acknowledge it."""
        claims = options.get("claims")
        assert claims is None or isinstance(claims, dict)
        await self.ask(type_url, claims=claims)
        response = await self.receive()
        await self.answer(response)
        return response


@asynccontextmanager
async def delta_client(
    address: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[DeltaClient]:
    """A stream to ``host:port`` or a Unix socket's path."""
    host, _, port = address.rpartition(":")
    if "/" in address:
        channel = Channel(path=address, codec=RawCodec())
    else:
        channel = Channel(host.strip("[]"), int(port), ssl=tls, codec=RawCodec())
    try:
        stream = channel.request(METHOD, Cardinality.STREAM_STREAM, bytes, bytes)
        async with stream:
            await stream.send_request()
            yield DeltaClient(stream)
            await stream.cancel()
    finally:
        channel.close()


def names(response: DeltaDiscoveryResponse) -> list[str]:
    """Names of the resources of a response."""
    return [resource.name for resource in response.resources]


def versions(response: DeltaDiscoveryResponse) -> dict[str, str]:
    """{name: version} of a response."""
    return {resource.name: resource.version for resource in response.resources}
