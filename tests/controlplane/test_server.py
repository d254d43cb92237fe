"""The control plane over real gRPC."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from kmesh.controlplane.file import load
from kmesh.controlplane.mesh import Mesh
from kmesh.controlplane.server import ControlPlane, Listen
from kmesh.core.events import ADDRESS, AUTHORIZATION
from kmesh.errors import ConfigError
from tests.controlplane.client import DeltaClient, delta_client, names, versions
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.anyio
Misbehaviour = Callable[[DeltaClient], Awaitable[None]]
DEMO = Path(__file__).parents[2] / "examples" / "demo.yaml"


async def test_first_answers_are_one_response_a_type_even_when_empty() -> None:
    mesh = load(DEMO)
    plane = ControlPlane(mesh)
    async with plane.serving() as address, delta_client(address) as client:
        first = await client.first(ADDRESS)
        assert len(first.resources) == len(mesh.workloads) + len(mesh.services)
        assert all(len(one.version) == 16 for one in first.resources)
        empty = await client.first(AUTHORIZATION)
        assert (empty.type_url, empty.resources) == (AUTHORIZATION, [])


async def test_claims_are_honoured_on_reconnect() -> None:
    mesh = load(DEMO)
    plane = ControlPlane(mesh)
    plane.set_resource(AUTHORIZATION, "n/p", "", b"P")
    async with plane.serving() as address:
        async with delta_client(address) as client:
            held = versions(await client.first(ADDRESS))
        stale = {**held, "gone": "0" * 16, mesh.workloads[0].uid: "old"}
        async with delta_client(address) as client:
            second = await client.first(ADDRESS, claims=stale)
            assert names(second) == [mesh.workloads[0].uid]
            assert second.removed_resources == ["gone"]
            policies = await client.first(AUTHORIZATION, claims={"n/p": "", "n/q": ""})
            assert names(policies) == ["n/p"]
            assert policies.removed_resources == ["n/q"]


async def test_an_applied_mesh_is_one_delta_to_every_client() -> None:
    mesh = load(DEMO)
    plane = ControlPlane(mesh)
    async with (
        plane.serving() as address,
        delta_client(address) as one,
        delta_client(address) as other,
    ):
        for client in (one, other):
            await client.first(ADDRESS)
        changed = mesh.workloads[1]._replace(healthy=False)
        await plane.apply(
            mesh._replace(workloads=(mesh.workloads[0], changed, *mesh.workloads[3:]))
        )
        for client in (one, other):
            response = await client.receive()
            assert names(response) == [changed.uid]
            assert response.removed_resources == [mesh.workloads[2].uid]


async def test_changes_between_two_awaits_are_one_response() -> None:
    plane = ControlPlane()
    async with plane.serving() as address, delta_client(address) as client:
        await client.first(ADDRESS)
        for number in range(100):
            plane.set_resource(ADDRESS, f"r{number}", "v", b"x")
        plane.remove_resource(ADDRESS, "r7")
        response = await client.receive()
        assert len(response.resources) == 99
        assert response.removed_resources == ["r7"]


async def test_a_client_that_does_not_read_gets_the_latest_state_only() -> None:
    plane = ControlPlane()
    async with plane.serving() as address, delta_client(address) as client:
        await client.first(ADDRESS)
        # The first response is larger than all windows, so the server waits in the middle of it.
        plane.set_resource(ADDRESS, "large", "1", bytes(16 << 20))
        await eventually(lambda: plane.statistics()[0].responses == 2)
        for number in range(50):
            plane.set_resource(ADDRESS, "fast", str(number), b"x")
            await anyio.lowlevel.checkpoint()
        assert plane.statistics()[0].responses == 2
        assert names(await client.receive()) == ["large"]
        assert versions(await client.receive()) == {"fast": "49"}


async def test_acks_and_nacks_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    plane = ControlPlane()
    plane.set_resource(ADDRESS, "bad/one", "v", b"\xff")
    async with plane.serving() as address, delta_client(address) as client:
        await client.ask(ADDRESS)
        response = await client.receive()
        await client.answer(response, "bad/one: truncated")
        await eventually(lambda: plane.statistics()[0].nacks == 1)
        nack = plane.sessions()[0].last_nack
        assert nack is not None
        assert (nack.message, nack.names) == ("bad/one: truncated", ("bad/one",))
        assert "bad/one: truncated; the response had bad/one" in caplog.text
        plane.set_resource(ADDRESS, "bad/one", "w", b"")
        await client.answer(await client.receive())
        await eventually(lambda: plane.statistics()[0].acks == 1)
        assert plane.statistics()[0].pending == 0


async def _no_node(client: DeltaClient) -> None:
    await client.ask(ADDRESS, node="")


async def _garbage(client: DeltaClient) -> None:
    await client.raw(b"\x0a\xff")


@pytest.mark.parametrize("misbehave", [_no_node, _garbage])
async def test_bad_requests_end_the_stream_and_nothing_else(misbehave: Misbehaviour) -> None:
    plane = ControlPlane(load(DEMO))
    async with plane.serving() as address, delta_client(address) as good:
        await good.first(ADDRESS)
        with pytest.raises(GRPCError) as caught:
            async with delta_client(address) as bad:
                await misbehave(bad)
                await bad.receive()
        assert caught.value.status is Status.INVALID_ARGUMENT
        await plane.apply(Mesh())
        assert len((await good.receive()).removed_resources) == 7


async def test_clients_that_vanish_are_forgotten() -> None:
    plane = ControlPlane(load(DEMO))
    async with plane.serving() as address:
        async with delta_client(address) as client:
            await client.first(ADDRESS)
            assert len(plane.sessions()) == 1
        await eventually(lambda: not plane.sessions())
        plane.set_resource(ADDRESS, "r", "v", b"x")


async def test_run_reports_its_address_and_stops_when_cancelled() -> None:
    plane = ControlPlane(load(DEMO))
    async with anyio.create_task_group() as group:
        address = await group.start(plane.run)
        async with delta_client(address) as client:
            await client.first(ADDRESS)
            group.cancel_scope.cancel()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=PATIENCE)


async def test_a_unix_socket_and_one_left_by_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "xds.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    plane = ControlPlane(load(DEMO), listen=Listen.parse(str(path)))
    async with plane.serving() as address, delta_client(address) as client:
        assert address == str(path)
        await client.first(ADDRESS)
        with pytest.raises(ConfigError, match="cannot listen at"):
            Listen.parse(str(path)).bind()
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "nowhere", ":1", "127.0.0.1:", "h:99999", "h:-1"])
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--listen"):
        Listen.parse(text)


def test_addresses() -> None:
    assert Listen.parse("[::1]:7") == Listen("::1", 7)
    assert Listen.parse("unix:/a/b") == Listen(path="/a/b")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            Listen("127.0.0.1", port).bind()
