"""Random policies: the program decides on real connections as the specification says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from kmesh.core import addr
from kmesh.core.model import PolicyScope
from kmesh.core.policy import Attempt, judge
from tests.core import policies as some
from tests.core.meshes import workload
from tests.kernel.authz import reach
from tests.kernel.net import Servers, namespace

if TYPE_CHECKING:
    from kmesh.core.model import Authorization
    from tests.kernel.mesh import Mesh

pytestmark = pytest.mark.kernel
SERVER, SERVER6 = "10.0.0.2", "fd00::2"
CLIENTS = {"10.0.0.1": "ab", "10.0.1.1": "b", "fd00::1": "default"}
STRANGERS = ("192.168.0.1", "fd01::1")


def test_the_program_decides_as_the_specification(mesh: Mesh) -> None:
    with namespace(SERVER, SERVER6, *CLIENTS, *STRANGERS) as pod:
        servers = Servers(pod)
        for port in some.PORTS:
            servers.tcp(SERVER, port)
            servers.tcp(SERVER6, port)
        mesh.steering.start_guarding()
        clients = {
            address: workload(f"client-{name}", address, namespace=name)
            for address, name in CLIENTS.items()
        }
        mesh.put(workload("server", SERVER, SERVER6, namespace="a"), *clients.values())
        mesh.tables.remember(pod.cookie, pod.path)
        mesh.enrol(pod, "server", "a")
        before: set[str] = set()

        @settings(deadline=None, max_examples=60)
        @given(some.policy_lists())
        def compare(policies: tuple[Authorization, ...]) -> None:
            mine = [each._replace(scope=PolicyScope.NAMESPACE) for each in policies]
            now = {each.key for each in mine}
            mesh.steering.put_policies([(key, None) for key in before - now])
            mesh.steering.put_policies([(each.key, each) for each in mine])
            mesh.settle()
            before.clear()
            before.update(now)
            for client in (*CLIENTS, *STRANGERS):
                identity = clients[client].identity if client in clients else None
                server = SERVER6 if ":" in client else SERVER
                for port in some.PORTS:
                    attempt = Attempt(addr.parse(client), addr.parse(server), port, identity)
                    expected = judge(mine, attempt)
                    assert reach(pod, client, server, port) is expected.allowed, attempt

        try:
            compare()
        finally:
            servers.close()
