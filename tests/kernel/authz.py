"""Policies for a guarded pod, and clients that come to it."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from kmesh.core import addr
from kmesh.core.model import Action, Authorization, Match, PolicyScope

if TYPE_CHECKING:
    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace


SERVER, FRIEND, STRANGER = "10.1.0.1", "10.1.0.2", "10.1.0.3"
OTHER = "10.1.0.4"
SERVER6, FRIEND6, STRANGER6 = "fd01::1", "fd01::2", "fd01::3"


def policy(
    name: str, *matches: Match, action: Action = Action.ALLOW, dry_run: bool = False,
    scope: PolicyScope = PolicyScope.NAMESPACE,
) -> Authorization:  # fmt: skip
    rules = tuple((((match,)),) for match in matches)
    return Authorization(f"default/{name}", "default", scope, action, rules, dry_run)


def source(text: str, plen: int) -> Match:
    return Match(source_ips=(addr.network(addr.parse(text), plen),))


def reach(pod: Namespace, client: str, server: str = SERVER, port: int = 8080) -> bool:
    """Whether a TCP connection is made; a denied one is refused at once."""
    with pod.socket(family(server)) as dialler:
        dialler.bind((client, 0))
        found = dialler.connect_ex((server, port))
        assert found in (0, errno.ECONNREFUSED)
        return found == 0


def put(mesh: Mesh, *policies: Authorization) -> None:
    mesh.steering.put_policies([(each.key, each) for each in policies])
    mesh.settle()


def family(server: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server else socket.AF_INET
