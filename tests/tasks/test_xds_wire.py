"""The client with the real decoder against the embedded control plane, over real gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from kmesh.controlplane.server import ControlPlane
from kmesh.core.backoff import Backoff
from kmesh.core.delta import Session
from kmesh.core.events import ADDRESS, AUTHORIZATION, Applied, Commit, Node, Offer
from kmesh.core.model import Authorization, Workload
from kmesh.core.options import XdsOptions, parse_target
from kmesh.tasks.xds import XdsClient
from kmesh.wire.discovery import Decoder, ResponseReader
from kmesh.wire.gen.istio import security
from kmesh.wire.gen.istio import workload as wds

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

NODE = Node("ztunnel~1.1.1.1~agent.kube~kube.svc.cluster.local", "", {"NODE_NAME": "n1"})


def pod(name: str, *addresses: bytes) -> bytes:
    workload = wds.Workload(uid=name, name=name, addresses=list(addresses))
    return bytes(wds.Address(workload=workload))


class World:
    """A control plane, a client, and the writer that would be between them and the kernel."""

    def __init__(self) -> None:
        self.session = Session(NODE)
        self.state: dict[str, object] = {}
        self._changed = anyio.Event()
        self._decoder = Decoder()

    def dial(self, address: str) -> XdsClient:
        """A client for this control plane that goes on with what is held."""
        self.client = XdsClient(
            XdsOptions(target=parse_target(f"http://{address}")),
            self.session,
            lambda: ResponseReader(self._decoder),
            self._offer,
            self._commit,
            backoff=Backoff(ceiling=0.001, first=0.001, cap=0.01),
        )
        return self.client

    def _offer(self, offer: Offer) -> None:
        self.state |= {item.name: item.value for item in offer.upserts}
        for name in offer.removed:
            self.state.pop(name, None)

    def _commit(self, commit: Commit) -> None:
        self.client.applied(Applied(commit.revision, {}))
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not holds():
                await self._changed.wait()


async def test_changes_removals_and_bad_resources_over_real_grpc() -> None:
    server = ControlPlane()
    server.set_resource(ADDRESS, "a", "v1", pod("a", bytes([10, 0, 0, 1])))
    server.set_resource(ADDRESS, "bad", "v1", pod("bad", bytes(3)))
    policy = bytes(security.Authorization(name="p", namespace="ns"))
    server.set_resource(AUTHORIZATION, "ns/p", "", policy)
    async with server.serving() as address, anyio.create_task_group() as tasks:
        world = World()
        tasks.start_soon(world.dial(address).run)
        await world.until(lambda: world.session.synced)
        assert isinstance(world.state["a"], Workload)
        assert isinstance(world.state["ns/p"], Authorization)
        assert set(world.state) == {"a", "ns/p"}

        server.set_resource(ADDRESS, "b", "v1", pod("b", bytes(16)))
        server.remove_resource(ADDRESS, "a")
        await world.until(lambda: set(world.state) == {"b", "ns/p"})
        # The answers are on their way: the next response is sent after they were read.
        server.remove_resource(AUTHORIZATION, "ns/p")
        await world.until(lambda: set(world.state) == {"b"})
        (refused,) = server.sessions()
        assert refused.last_nack is not None
        assert refused.last_nack.message.startswith("bad: ")
        assert set(refused.last_nack.names) == {"a", "bad"}
        (counts,) = server.statistics()
        assert (counts.nacks, counts.stale) == (1, 0)
        tasks.cancel_scope.cancel()
    assert world.client.statistics().ends == {}


async def test_a_new_stream_brings_only_what_changed_meanwhile() -> None:
    first, second = ControlPlane(), ControlPlane()
    names = [f"pod-{index}" for index in range(5_000)]
    for server in (first, second):
        for name in names:
            server.set_resource(ADDRESS, name, "v1", pod(name, bytes(16)))
    second.remove_resource(ADDRESS, "pod-7")
    second.set_resource(ADDRESS, "pod-8", "v2", pod("pod-8", bytes([10, 0, 0, 8])))
    world = World()
    async with first.serving() as address, anyio.create_task_group() as tasks:
        tasks.start_soon(world.dial(address).run)
        await world.until(lambda: world.session.synced)
        tasks.cancel_scope.cancel()
    assert len(world.state) == len(names)
    async with second.serving() as address, anyio.create_task_group() as tasks:
        tasks.start_soon(world.dial(address).run)
        await world.until(lambda: "pod-7" not in world.state)
        (counts,) = second.statistics()
        tasks.cancel_scope.cancel()
    assert (counts.resources, counts.removals) == (1, 1)
    changed = world.state["pod-8"]
    assert isinstance(changed, Workload)
    assert changed.addresses[0].endswith(bytes([10, 0, 0, 8]))
