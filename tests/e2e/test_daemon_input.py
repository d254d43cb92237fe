"""What the control plane may get wrong: bad resources are named, garbage changes nothing."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest

from kmesh.core.events import ADDRESS
from kmesh.wire.gen.istio import workload as w
from tests.e2e.agent import uid
from tests.e2e.peers import bad_plane, service
from tests.e2e.peers import pod as workload
from tests.kernel.mesh import dial
from tests.waiting import until

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane, PlaneProcess
    from tests.kernel.net import Namespace, Servers
    from tests.tasks.xds_peers import Peer

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

CLIENT = workload("client", "10.1.0.9")
WEB = service("default/web", "10.9.0.1")
FIRST = workload("first", "10.1.0.1", of="default/web")
ONE, TWO = "10.1.0.1:8080", "10.1.0.2:8080"
LIMIT = 200 << 20


def resource(name: str, *addresses: bytes) -> bytes:
    """An endpoint of default/web."""
    made = w.Workload(
        uid=uid(name), name=name, namespace="default", node="n1", addresses=list(addresses),
        services={"default/web": w.PortList(ports=[])},
    )  # fmt: skip
    return bytes(w.Address(workload=made))


def served(vip: str) -> bytes:
    """The service default/web at another address."""
    made = w.Service(
        name="web", namespace="default", hostname="web",
        addresses=[w.NetworkAddress(address=socket.inet_aton(vip))],
        ports=[w.Port(service_port=80, target_port=8080)],
    )  # fmt: skip
    return bytes(w.Address(service=made))


def test_a_bad_resource_among_good_ones_is_named_and_the_good_ones_count(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, WEB, FIRST)
    plane.put(uid("bad"), resource("bad", bytes(5)))
    agent.start_synced()
    agent.enrol(pod)
    assert {dial(pod, "10.9.0.1", 80) for _ in range(20)} == {ONE}
    nack = plane.nack()
    assert nack.type_url == ADDRESS
    assert uid("bad") in nack.message
    assert "5 bytes" in nack.message
    assert uid("first") not in nack.message
    types = agent.state()["xds"]["types"][ADDRESS]
    assert (types["rejected"], types["nacks"]) == (1, 1)
    # It is mended: acknowledged, and in force.
    plane.put(uid("bad"), resource("bad", bytes([10, 1, 0, 2])))
    assert plane.until_answered().nacks == 1
    assert {dial(pod, "10.9.0.1", 80) for _ in range(50)} == {ONE, TWO}


SPOILED = {
    "an address of one byte": resource("first", bytes([10, 1, 0, 2]), b"x"),
    "another name": resource("other", bytes([10, 1, 0, 2])),
    "garbage": b"\xff\xff\xff",
    "nothing": b"",
}


def test_the_last_good_version_stays_when_a_resource_turns_bad(
    agent: Agent, plane: Plane, pod: Namespace, servers: Servers
) -> None:
    plane.apply(CLIENT, WEB, FIRST)
    agent.start_synced()
    agent.enrol(pod)
    before = agent.kernel()
    for count, (what, spoiled) in enumerate(SPOILED.items(), 1):
        plane.put(uid("first"), spoiled)
        until(lambda count=count: plane.statistics().nacks == count, agent.tail)  # type: ignore[misc]
        assert uid("first") in plane.nack().message, what
        assert agent.kernel() == before, what
        assert dial(pod, "10.9.0.1", 80) == ONE, what
    # Neighbours of the bad one still change.
    acks = plane.statistics().acks
    plane.put("default/web", served("10.9.0.2"))
    until(lambda: plane.statistics().acks == acks + 1, agent.tail)
    assert dial(pod, "10.9.0.2", 80) == ONE
    # Mended, it counts again.
    plane.put(uid("first"), resource("first", bytes([10, 1, 0, 2])))
    until(lambda: plane.statistics().acks == acks + 2, agent.tail)
    assert dial(pod, "10.9.0.2", 80) == TWO


async def garbage(peer: Peer) -> None:
    await peer.ok()
    peer.message(b"\xff" * 1000)


async def truncated(peer: Peer) -> None:
    await peer.ok()
    peer.message(b"\x0a\x03abc", length=4096)
    peer.trailers(0, "")


async def too_long(peer: Peer) -> None:
    await peer.ok()
    peer.message(b"", length=LIMIT + 1)


async def compressed(peer: Peer) -> None:
    await peer.ok()
    peer.message(b"\x1f\x8b", flags=1)


async def no_http2(peer: Peer) -> None:
    peer.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def half_a_response(peer: Peer) -> None:
    """A service and one of its endpoints, both well-formed, then garbage."""
    await peer.ok()
    web = _resource("default/web", served("10.9.0.1"))
    peer.message(web + _resource(uid("first"), resource("first", bytes([10, 1, 0, 1]))) + b"\xff")


def _resource(name: str, raw: bytes) -> bytes:
    any_ = _field(1, ADDRESS.encode()) + _field(2, raw)
    return _field(2, _field(3, name.encode()) + _field(1, b"v9") + _field(2, any_))


def _field(number: int, data: bytes) -> bytes:
    length = struct.pack("BB", len(data) & 0x7F | 0x80, len(data) >> 7)
    return bytes([number << 3 | 2]) + length + data


FAULTS = {
    "decode": garbage,
    "truncated": truncated,
    "oversize": too_long,
    "compressed": compressed,
}


def test_garbage_from_the_control_plane_is_counted_and_changes_nothing(
    far_agent: Agent, far_plane: PlaneProcess, pod: Namespace, servers: Servers
) -> None:
    agent, plane = far_agent, far_plane
    plane.write(CLIENT, WEB, FIRST)
    plane.start()
    agent.start_synced()
    agent.enrol(pod)
    before, attempts = agent.kernel(), agent.state()["xds"]["attempts"]
    plane.kill()
    with bad_plane(plane.address, *FAULTS.values(), no_http2):
        state = agent.until(lambda state: set(FAULTS) <= set(state["xds"]["ends"]))
        for reason in FAULTS:
            assert state["xds"]["ends"][reason] >= 1
        assert state["xds"]["attempts"] > attempts + len(FAULTS) - 1
        assert state["xds"]["last_error"]
    assert agent.kernel() == before
    assert dial(pod, "10.9.0.1", 80) == ONE
    # The good one is back: all is well, and the agent never went away.
    plane.write(CLIENT, WEB, workload("second", "10.1.0.2", of="default/web"))
    plane.start()
    agent.until(lambda state: state["xds"]["connected"] and state["synced"])
    until(lambda: dial(pod, "10.9.0.1", 80) == TWO, agent.tail)
    state = agent.state()
    assert not any(state["restarts"].values())
    assert state["process"]["peak_rss_kib"] < LIMIT >> 10


def test_the_first_answer_cut_off_does_not_start_steering(
    far_agent: Agent, far_plane: PlaneProcess, pod: Namespace, servers: Servers
) -> None:
    """Half a mesh is no mesh: nothing is written before the first answer is whole."""
    agent, plane = far_agent, far_plane
    with bad_plane(plane.address, half_a_response):
        agent.start()
        state = agent.until(lambda state: state["xds"]["ends"].get("decode", 0) > 1)
        assert (state["planner"]["workloads"], state["planner"]["services"]) == (1, 1)
        assert (state["synced"], state["planner"]["records"]) == (False, 0)
        assert agent.kernel()["km_vip"] == []
    plane.write(CLIENT, WEB, FIRST)
    plane.start()
    agent.until(lambda state: state["synced"])
    agent.enrol(pod)
    assert dial(pod, "10.9.0.1", 80) == ONE
