"""What becomes of open connections when a policy or an identity changes."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import anyio
import pytest

from kmesh.abi.layout import Reason
from kmesh.core.commands import Op, Phase
from kmesh.core.guard_why import forbids
from kmesh.core.model import Action, Match, StringMatch
from kmesh.tasks.ender import Ender
from kmesh.tasks.evict import Evictor
from tests.core.meshes import uid, workload
from tests.kernel.authz import (
    FRIEND,
    FRIEND6,
    SERVER,
    SERVER6,
    STRANGER,
    STRANGER6,
    family,
    policy,
    put,
    source,
)
from tests.kernel.net import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace


pytestmark = pytest.mark.kernel
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def connected(guarded: Mesh, pod: Namespace) -> Iterator[Callable[[str, str], Pair]]:
    """Opens connections to a server that never closes them: (client, accepted)."""
    with ExitStack() as stack:
        listeners = {}
        for server in (SERVER, SERVER6):
            listener = listeners[server] = stack.enter_context(pod.socket(family(server)))
            listener.bind((server, 7777))
            listener.listen(512)

        def connect(client: str, server: str) -> Pair:
            dialler = stack.enter_context(pod.socket(family(server)))
            dialler.bind((client, 0))
            dialler.connect((server, 7777))
            accepted = stack.enter_context(listeners[server].accept()[0])
            accepted.settimeout(TIMEOUT)
            return dialler, accepted

        yield connect


WAYS = pytest.mark.parametrize("way", ["program", "sock_diag"])


@WAYS
def test_an_open_connection_lives_until_it_is_looked_at(
    guarded: Mesh, pod: Namespace, connected: Callable[[str, str], Pair], way: str
) -> None:
    pairs = [(SERVER, FRIEND), (SERVER6, FRIEND6), (SERVER, STRANGER), (SERVER6, STRANGER6)]
    friend, friend6, stranger, stranger6 = (connected(c, s) for s, c in pairs)
    told: set[int] = set()
    guarded.steering.guards.changed = told.update
    put(guarded, policy("a", source(FRIEND, 32), source(FRIEND6, 128)))
    assert told == {pod.cookie}
    talk(stranger)
    pod_evict(guarded, pod, way)
    for pair in (friend, friend6):
        talk(pair)
    for client, server in (stranger, stranger6):
        with pytest.raises(ConnectionAbortedError):
            server.recv(1)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert guarded.count("EVICT", "NOT_ALLOWED") == (2 if way == "program" else 0)


@WAYS
def test_what_the_pod_dialled_itself_is_not_looked_at(
    guarded: Mesh, pod: Namespace, way: str
) -> None:
    listener = pod.socket()
    with listener, pod.socket() as client:
        listener.bind((FRIEND, 7777))
        listener.listen()
        guarded.steering.planner.open_reasons = 1 << Reason.UNLISTED
        planner = guarded.steering.planner
        guarded.tables.apply([Op(Phase.CIDRS_ON, planner.config(cidrs=False), None)])
        client.bind((SERVER, 0))
        client.connect((FRIEND, 7777))
        server, _ = listener.accept()
        with server:
            put(guarded, policy("nobody"))
            pod_evict(guarded, pod, way)
            talk((client, server))


@WAYS
def test_an_identity_that_changes_ends_its_connections(
    guarded: Mesh, pod: Namespace, connected: Callable[[str, str], Pair], way: str
) -> None:
    other = Match(namespaces=(StringMatch("exact", "other"),))
    put(guarded, policy("a", other, action=Action.DENY))
    pair = connected(FRIEND, SERVER)
    told: set[int] = set()
    guarded.steering.guards.changed = told.update
    guarded.remove(uid("friend"))
    guarded.put(workload("friend", FRIEND, namespace="other"))
    assert told == {pod.cookie}
    pod_evict(guarded, pod, way)
    with pytest.raises(ConnectionAbortedError):
        pair[1].recv(1)


def talk(pair: Pair) -> None:
    client, server = pair
    client.sendall(b"?")
    assert server.recv(1) == b"?"


def pod_evict(mesh: Mesh, pod: Namespace, way: str) -> None:
    """Look at the pod's connections, with the program (where there is one) or over sock_diag."""
    if way == "program" and "km_evict" not in mesh.plane.programs:
        pytest.skip("this kernel has no iterator that ends connections")
    steering = mesh.steering
    evictor = Evictor(
        0.0,
        Ender(mesh.plane.iterate if way == "program" else lambda *_: False, mesh.plane.sockets),
        lambda found: forbids(steering, found.remote, found.local, found.local_port),
    )
    anyio.run(evictor.look, pod.cookie)
    assert evictor.statistics().failures == 0
