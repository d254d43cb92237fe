"""What tables that forget have forgotten is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kmesh.bpf import lib
from kmesh.bpf.traffic import TrafficReader
from kmesh.tasks.fill import Filler
from tests.core.meshes import WEB, service, workload
from tests.kernel.mesh import SMALL, Mesh

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.net import Namespace, Servers

pytestmark = [pytest.mark.kernel, pytest.mark.anyio]
FLOWS = 4 * SMALL.flows


class Writer:
    """Works at once."""

    async def ask(self, work: Callable[[], Any]) -> Any:
        return work()


async def test_udp_flows_that_were_forgotten_are_counted(
    mesh: Mesh, pod: Namespace, servers: Servers
) -> None:
    mesh.enrol(pod)
    servers.udp("10.1.0.1", 8080)
    mesh.put(service(WEB, "10.9.0.1"), workload("w1", "10.1.0.1", of=WEB))
    mesh.put(workload("client", "10.1.0.9"))
    reader = TrafficReader(mesh.plane)
    filler = Filler(mesh.plane, Writer(), {}, dict, reader.made)  # type: ignore[arg-type]
    await filler.count()
    assert filler.statistics().evicted == {"km_flow": 0, "km_avoid": 0}
    for _ in range(FLOWS):
        with pod.socket(kind=2) as client:  # a flow of its own; its second datagram makes no other
            client.sendto(b"?", ("10.9.0.1", 80))
            client.sendto(b"?", ("10.9.0.1", 80))
    await filler.count()
    there = lib.count(mesh.plane.maps["km_flow"])
    assert there is not None
    assert 0 < there <= SMALL.flows
    assert filler.statistics().evicted["km_flow"] == FLOWS - there
