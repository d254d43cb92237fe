"""The agent's whole way from the control plane to the tables, while the stream is cut at every
message and one call of the tables in ten fails."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio
import pytest

from kmesh.abi.layout import Reason
from kmesh.bpf.fake import FaultyTables
from kmesh.controlplane.file import parse
from kmesh.controlplane.server import ControlPlane, Listen
from kmesh.core import addr
from kmesh.core.backoff import Backoff
from kmesh.core.delta import Session
from kmesh.core.options import Target, XdsOptions
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from kmesh.core.tables import Outcome
from kmesh.tasks.writer import Writer
from kmesh.tasks.xds import XdsClient
from kmesh.wire.discovery import Decoder, ResponseReader
from tests.e2e.peers import mesh_file, pod, policy, service
from tests.tasks.cutter import Proxy
from tests.tasks.xds_peers import NODE
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmesh.core.commands import Op
    from kmesh.core.events import Applied

pytestmark = pytest.mark.anyio

COOKIE = 7
MESSAGES = 12
STABLE = ("10.9.0.1", 80)


class Tables(FaultyTables):
    """Fails one call in ten; after each operation the service that never changes is asked for."""

    def __init__(self) -> None:
        dice = random.Random(3)
        super().__init__(lambda _: dice.random() < 0.1)
        self.seen = False

    def apply(self, ops: Sequence[Op]) -> Outcome:
        done = 0
        for op in ops:
            outcome = super().apply([op])
            self._ask()
            done += outcome.done
            if outcome.error is not None:
                return outcome._replace(done=done)
        return Outcome(done, None)

    def _ask(self) -> None:
        found = self.endpoints(addr.parse(STABLE[0]), STABLE[1])
        reasons = {each.reason for each in found} if isinstance(found, set) else {found.reason}
        self.seen |= reasons == {Reason.BALANCED}
        assert not self.seen or reasons == {Reason.BALANCED}


class Rig:
    """An agent without a kernel."""

    def __init__(self, port: int) -> None:
        self.tables = Tables()
        vips, slots = self.tables.capacity()
        store = Store("", "Kubernetes", "n1")
        self.steer = Steering(store, Segments(slots), vips)
        self.session = Session(NODE)
        self.writer = Writer(self.tables, self.steer, self._applied)
        decoder = Decoder()
        self.client = XdsClient(
            XdsOptions(target=Target(False, "127.0.0.1", port)), self.session,
            lambda: ResponseReader(decoder), self.writer.offer, self.writer.commit,
            backoff=Backoff(ceiling=0.001, first=0.001, cap=0.01),
        )  # fmt: skip
        self.writer.enrol(COOKIE, "Kubernetes//Pod/default/client")

    def _applied(self, applied: Applied) -> None:
        self.client.applied(applied)

    def settled(self) -> bool:
        failing = self.steer.failing or self.steer.guards.slices.failing
        return self.session.synced and self.steer.idle() and not failing and not self.writer.mailbox


def mesh(step: int) -> str:
    """A mesh in which everything but one service changes with every step."""
    others = [f"default/other-{i}" for i in range(step % 4)]
    return mesh_file(
        service("default/web", STABLE[0]), pod("web", "10.1.0.1", of="default/web"),
        pod("client", "10.1.0.9", serviceAccount=f"account-{step % 2}"),
        *(service(key, f"10.9.1.{i}") for i, key in enumerate(others)),
        *(pod(f"pod-{i}", f"10.2.{step}.{i}", of=key) for i, key in enumerate(others)),
        policy(f"p{step % 3}", {"namespaces": [{"Exact": f"ns-{step}"}]}),
    )  # fmt: skip


async def test_cut_at_every_message_with_faulty_tables_it_gets_there() -> None:
    plane = ControlPlane(listen=Listen())
    await plane.apply(parse(mesh(0).encode(), "mesh"))
    async with plane.serving() as address, anyio.create_task_group() as tasks:
        proxy = Proxy(MESSAGES, int(address.rpartition(":")[2]))
        async with proxy.serving() as port:
            rig = Rig(port)
            tasks.start_soon(rig.writer.run)
            tasks.start_soon(rig.client.run)
            step = 0
            while proxy.cuts < MESSAGES:
                step += 1
                connections = proxy.connections
                await plane.apply(parse(mesh(step).encode(), "mesh"))
                with anyio.move_on_after(0.2):
                    await eventually(lambda seen=connections: proxy.connections > seen)  # type: ignore[misc]
            await plane.apply(parse(mesh(3).encode(), "mesh"))
            last = {service_.key for service_ in parse(mesh(3).encode(), "mesh").services}
            await eventually(lambda: rig.settled() and set(rig.steer.store.services) == last)
            tasks.cancel_scope.cancel()
    assert rig.tables.seen
    assert (proxy.cuts, proxy.connections) == (MESSAGES, MESSAGES + 1)
    assert rig.writer.statistics().failures > 3, "no call of the tables failed"
    fresh = Steering(Store("", "Kubernetes", "n1"), Segments(1 << 16), 1 << 16)
    fresh.adopt(rig.tables.scan(), rig.tables.scan_guards())
    assert {key: each.target for key, each in fresh.planner.records.items()} == {
        key: each.target for key, each in rig.steer.planner.records.items()
    }
    for name in ("10.9.1.0", "10.9.1.1", "10.9.1.2"):
        found = rig.tables.endpoints(addr.parse(name), 80)
        assert isinstance(found, set), name
        assert {each.reason for each in found} == {Reason.BALANCED}
