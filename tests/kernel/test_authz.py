"""Authorization in the real programs: what a client of a guarded pod meets."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.layout import Reason, Switch
from kmesh.bpf import lib
from kmesh.core.commands import Op, Phase
from kmesh.core.model import Action, Match, PolicyScope, StringMatch
from tests.core.meshes import WEB, service, uid, workload
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
    reach,
    source,
)
from tests.kernel.mesh import Mesh, dial, refused
from tests.kernel.net import Servers

if TYPE_CHECKING:
    from tests.kernel.net import Namespace


pytestmark = pytest.mark.kernel


def test_without_policies_everybody_comes_in(guarded: Mesh, pod: Namespace) -> None:
    assert reach(pod, FRIEND)
    assert reach(pod, STRANGER6, SERVER6)
    assert guarded.count("LOOKUP", "ALLOWED") == 2


def test_only_the_allowed_source_comes_in(guarded: Mesh, pod: Namespace) -> None:
    put(guarded, policy("a", source(FRIEND, 32), source(FRIEND6, 128)))
    assert reach(pod, FRIEND)
    assert not reach(pod, STRANGER)
    assert reach(pod, FRIEND6, SERVER6)
    assert not reach(pod, STRANGER6, SERVER6)
    assert guarded.count("LOOKUP", "NOT_ALLOWED") == 2


@pytest.mark.parametrize("first", [Action.ALLOW, Action.DENY])
def test_deny_wins_whatever_came_first(guarded: Mesh, pod: Namespace, first: Action) -> None:
    second = Action.DENY if first is Action.ALLOW else Action.ALLOW
    put(guarded, policy("a", source("0.0.0.0", 0), action=first))
    put(guarded, policy("b", source("0.0.0.0", 0), action=second))
    assert not reach(pod, FRIEND)
    assert guarded.count("LOOKUP", "DENIED") == 1


@pytest.mark.parametrize(("plen", "friend", "stranger"), [(128, 1, 0), (64, 1, 1), (0, 1, 1)])
def test_ipv6_prefixes(
    guarded: Mesh, pod: Namespace, plen: int, friend: int, stranger: int
) -> None:
    put(guarded, policy("a", source(FRIEND6, plen)))
    assert reach(pod, FRIEND6, SERVER6) == friend
    assert reach(pod, STRANGER6, SERVER6) == stranger


def test_the_port_is_the_pod_s_own(guarded: Mesh, pod: Namespace) -> None:
    put(guarded, policy("a", Match(not_destination_ports=(9090,))))
    assert reach(pod, STRANGER, port=8080)
    assert not reach(pod, STRANGER, port=9090)


def test_identities_are_known_by_address(guarded: Mesh, pod: Namespace) -> None:
    friend = StringMatch("exact", "cluster.local/ns/default/sa/default")
    put(guarded, policy("a", Match(principals=(friend,))))
    assert reach(pod, FRIEND)
    assert not reach(pod, STRANGER)
    guarded.put(workload("stranger", STRANGER))
    assert reach(pod, STRANGER)
    guarded.remove(uid("stranger"))
    assert not reach(pod, STRANGER)


def test_plaintext_peers_are_those_without_identity(guarded: Mesh, pod: Namespace) -> None:
    strict = Match(not_principals=(StringMatch("presence"),))
    put(guarded, policy("strict", strict, action=Action.DENY))
    assert reach(pod, FRIEND)
    assert not reach(pod, STRANGER)


def test_namespaces(guarded: Mesh, pod: Namespace) -> None:
    other = Match(namespaces=(StringMatch("exact", "other"),))
    put(guarded, policy("a", other, action=Action.DENY))
    assert reach(pod, FRIEND)
    guarded.put(workload("stranger", STRANGER, namespace="other"))
    assert not reach(pod, STRANGER)


def test_what_is_in_dry_run_is_counted_and_not_enforced(guarded: Mesh, pod: Namespace) -> None:
    put(guarded, policy("a", source(STRANGER, 32), action=Action.DENY, dry_run=True))
    assert reach(pod, STRANGER)
    assert guarded.verdicts() == {("default/a", "DRY_DENIED"): 1, ("", "ALLOWED"): 1}


def test_verdicts_are_counted_by_policy(guarded: Mesh, pod: Namespace) -> None:
    put(guarded, policy("a", source("10.0.0.0", 8)))
    put(guarded, policy("d", source(STRANGER, 32), action=Action.DENY))
    assert reach(pod, FRIEND)
    assert not reach(pod, STRANGER)
    assert not reach(pod, STRANGER6, SERVER6)
    assert guarded.verdicts() == {
        ("default/a", "ALLOWED"): 1, ("default/d", "DENIED"): 1, ("", "DENIED"): 1,
    }  # fmt: skip


def test_a_policy_that_has_not_arrived_keeps_the_door_closed(guarded: Mesh, pod: Namespace) -> None:
    late = policy("late", source(FRIEND, 32), scope=PolicyScope.WORKLOAD_SELECTOR)
    guarded.put(workload("server", SERVER, SERVER6)._replace(policies=("default/late",)))
    assert not reach(pod, FRIEND)
    assert guarded.count("LOOKUP", "WAITING") == 1
    (row,) = guarded.steering.guards.records.pods.values()
    assert row.missing == ("default/late",)
    put(guarded, late)
    assert reach(pod, FRIEND)
    assert not reach(pod, STRANGER)


def test_the_pod_reaches_itself_under_every_policy(guarded: Mesh, pod: Namespace) -> None:
    put(guarded, policy("nobody"))
    assert not reach(pod, FRIEND)
    assert reach(pod, SERVER)
    assert reach(pod, SERVER6, SERVER6)
    listener = pod.socket()
    with listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pod.socket() as client:
            client.connect(listener.getsockname())


def test_an_address_that_the_mesh_does_not_know_is_closed(
    guarded: Mesh, pod: Namespace, servers: Servers
) -> None:
    servers.tcp("10.1.0.9", 8080)
    assert not reach(pod, FRIEND, "10.1.0.9")
    assert guarded.count("LOOKUP", "UNLISTED") == 1


def test_answers_to_unconnected_datagrams_come_in(
    guarded: Mesh, pod: Namespace, servers: Servers
) -> None:
    servers.udp(STRANGER, 53)
    planner = guarded.steering.planner
    planner.open_reasons = 1 << Reason.UNLISTED  # the server of this test is in the same namespace
    guarded.tables.apply([Op(Phase.CIDRS_ON, planner.config(cidrs=False), None)])
    put(guarded, policy("nobody"))
    with pod.socket(kind=socket.SOCK_DGRAM) as client:
        client.bind((SERVER, 0))
        client.sendto(b"?", (STRANGER, 53))
        assert client.recv(100) == f"{STRANGER}:53".encode()
        mine = client.getsockname()
        with pod.socket(kind=socket.SOCK_DGRAM) as other:
            other.bind((FRIEND, 0))
            other.connect(mine)
            other.send(b"nobody asked me")
            with pytest.raises(ConnectionRefusedError):
                other.recv(100)
    assert guarded.count("LOOKUP", "REPLY") == 1


def test_answers_to_what_the_pod_dials_come_in_under_every_policy(
    mesh: Mesh, ends: tuple[Namespace, Namespace]
) -> None:
    pod, outside = ends
    servers = Servers(outside)
    try:
        servers.tcp(STRANGER, 8080)
        servers.tcp(STRANGER6, 8080)
        servers.udp(STRANGER, 8080)
        mesh.steering.start_guarding()
        mesh.put(workload("server", SERVER, SERVER6))
        mesh.tables.remember(pod.cookie, pod.path)
        mesh.enrol(pod, "server")
        put(mesh, policy("nobody"), policy("all", source("0.0.0.0", 0), action=Action.DENY))
        assert not reach(outside, STRANGER)
        assert dial(pod, STRANGER, 8080) == f"{STRANGER}:8080"
        assert dial(pod, STRANGER6, 8080) == f"{STRANGER6}:8080"
        with pod.socket(kind=socket.SOCK_DGRAM) as asks:
            asks.connect((STRANGER, 8080))
            asks.send(b"?")
            assert asks.recv(100) == f"{STRANGER}:8080".encode()
    finally:
        servers.close()


@pytest.mark.parametrize(
    ("server", "friend", "stranger"), [(SERVER, FRIEND, STRANGER), (SERVER6, FRIEND6, STRANGER6)]
)
def test_datagrams_are_judged(
    guarded: Mesh, pod: Namespace, server: str, friend: str, stranger: str
) -> None:
    put(guarded, policy("a", source(friend, 128 if ":" in friend else 32)))

    def ask(client: str) -> bytes:
        with pod.socket(family(server), socket.SOCK_DGRAM) as dialler:
            dialler.bind((client, 0))
            dialler.connect((server, 8080))
            dialler.send(b"?")
            return dialler.recv(100)

    assert ask(friend) == f"{server}:8080".encode()
    with pytest.raises(ConnectionRefusedError):
        ask(stranger)


def test_sixty_four_policies_on_one_workload(guarded: Mesh, pod: Namespace) -> None:
    put(guarded, *(policy(f"p{i}", source(f"10.2.{i}.0", 24)) for i in range(63)))
    assert not reach(pod, FRIEND)
    put(guarded, policy("p64", source(FRIEND, 32)))
    assert reach(pod, FRIEND)
    assert not reach(pod, STRANGER)
    assert guarded.verdicts()["default/p64", "ALLOWED"] == 1


def test_a_client_is_refused_before_it_reaches_the_server(
    mesh: Mesh, ends: tuple[Namespace, Namespace]
) -> None:
    if "km_refuse4" not in mesh.plane.programs:
        pytest.skip("this kernel refuses the program")
    pod, client = ends
    servers = Servers(pod)
    try:
        servers.tcp(SERVER, 8080)
        servers.tcp(SERVER6, 8080)
        mesh.steering.start_guarding()
        mesh.put(
            workload("server", SERVER, SERVER6, of=WEB), workload("friend", FRIEND, FRIEND6),
            service(WEB, "10.9.0.1"),
        )  # fmt: skip
        for end, name in ((pod, "server"), (client, "friend")):
            mesh.tables.remember(end.cookie, end.path)
            mesh.enrol(end, name)
        put(mesh, policy("others", source(STRANGER, 32)))
        assert not connects(client, SERVER)
        assert (mesh.count("LOOKUP", "NOT_ALLOWED"), early(mesh)) == (1, 0), "off at first"
        switches = Switch(*(0 for _ in Switch._fields))
        lib.update(
            mesh.plane.maps["km_switch"], bytes(4), switches._replace(early_refusal=1).pack()
        )
        for server, port in ((SERVER, 8080), (SERVER6, 8080), ("10.9.0.1", 80)):
            assert not connects(client, server, port)
        assert (mesh.count("LOOKUP", "NOT_ALLOWED"), early(mesh)) == (1, 3)
        put(mesh, policy("others", source(FRIEND, 32), source("fd01::", 64)))
        for server, port in ((SERVER, 8080), (SERVER6, 8080), ("10.9.0.1", 80)):
            assert connects(client, server, port)
        # Who binds to another address of its own is judged by that.
        assert not connects(client, SERVER, mine=STRANGER)
        assert early(mesh) == 4
    finally:
        servers.close()


def connects(pod: Namespace, server: str, port: int = 8080, mine: str = "") -> bool:
    """Whether a connection is made, from wherever the kernel likes or an address of one's own."""
    with pod.socket(family(server)) as dialler:
        if mine:
            dialler.bind((mine, 0))
        found = dialler.connect_ex((server, port))
        assert found in (0, refused(), errno.ECONNREFUSED)
        return found == 0


def early(mesh: Mesh) -> int:
    return mesh.count("EARLY", "NOT_ALLOWED")


def test_ports_are_those_of_the_pod_through_a_vip_and_direct(
    mesh: Mesh, ends: tuple[Namespace, Namespace]
) -> None:
    pod, client = ends
    servers = Servers(pod)
    vips = (("10.9.0.1", 80), ("fd09::1", 80), (SERVER, 8080), (SERVER6, 8080))
    try:
        servers.tcp(SERVER, 8080)
        servers.tcp(SERVER6, 8080)
        mesh.steering.start_guarding()
        mesh.put(
            workload("server", SERVER, SERVER6, of=WEB), workload("friend", FRIEND, FRIEND6),
            service(WEB, "10.9.0.1", "fd09::1"),
        )  # fmt: skip
        for end, name in ((pod, "server"), (client, "friend")):
            mesh.tables.remember(end.cookie, end.path)
            mesh.enrol(end, name)
        for port, action, opened in (
            (8080, Action.ALLOW, True), (80, Action.ALLOW, False),
            (80, Action.DENY, True), (8080, Action.DENY, False),
        ):  # fmt: skip
            put(mesh, policy("a", Match(destination_ports=(port,)), action=action))
            assert [connects(client, *each) for each in vips] == [opened] * len(vips)
    finally:
        servers.close()
