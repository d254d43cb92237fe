"""What is counted and recorded of real connections, at both ends."""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.layout import (
    EVENT_SIZE,
    Direction,
    EventKind,
    Switch,
    Tally,
    Traffic,
    TrafficKey,
)
from kmesh.bpf import lib
from kmesh.bpf.ring import Ring
from kmesh.bpf.traffic import TrafficReader
from kmesh.core import addr
from kmesh.core.records import Connection
from kmesh.core.traffic import NOTHING, Growth
from tests.core.meshes import WEB, service, workload
from tests.kernel.authz import policy, put, reach, source
from tests.kernel.mesh import SMALL, Mesh
from tests.kernel.net import Servers
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.net import Namespace

pytestmark = pytest.mark.kernel
SERVER, FRIEND, STRANGER, VIP = "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.9.0.1"
SERVER6, FRIEND6 = "fd01::1", "fd01::2"
Ends = tuple["Namespace", "Namespace"]
GREETING = len(f"{SERVER}:8080")
GREETING6 = len(f"{SERVER6}:8080")


@pytest.fixture
def watched(mesh: Mesh, ends: Ends) -> Iterator[Mesh]:
    """Both ends are enrolled; the server greets and closes. Every step has a record."""
    pod, client = ends
    if "km_observe" not in mesh.plane.programs:
        pytest.skip("this kernel refuses the program")
    servers = Servers(pod)
    servers.tcp(SERVER, 8080)
    servers.tcp(SERVER6, 8080)
    try:
        mesh.put(
            workload("server", SERVER, SERVER6, of=WEB), workload("friend", FRIEND, FRIEND6),
            service(WEB, VIP, ports=((80, 8080),)),
        )  # fmt: skip
        mesh.enrol(pod, "server")
        mesh.enrol(client, "friend")
        switch(mesh, access_log=5)
        yield mesh
    finally:
        servers.close()


def switch(mesh: Mesh, **wanted: int) -> None:
    value = Switch(*(0 for _ in Switch._fields))._replace(**wanted)
    lib.update(mesh.plane.maps["km_switch"], bytes(4), value.pack())


def traffic(mesh: Mesh) -> dict[TrafficKey, Traffic]:
    some = TrafficReader(mesh.plane).slices()
    return {TrafficKey.unpack(key): value for each in some for key, value in each}


def total(mesh: Mesh, direction: Direction, result: int = 0) -> Traffic:
    """Sum over the rows of a direction."""
    rows = [v for k, v in traffic(mesh).items() if (k.direction, k.result) == (direction, result)]
    return Traffic(*(sum(column) for column in zip(NOTHING, *rows, strict=True)))


def records(mesh: Mesh) -> list[Connection]:
    ring = Ring(mesh.plane.maps["km_events"], EVENT_SIZE)
    try:
        found: list[Connection] = []
        more = True
        while more:
            raw, more = ring.drain()
            found += Connection.unpack_many(raw)
        return [each for each in found if each.kind > EventKind.DRY_RUN]
    finally:
        ring.close()


def fetch(client: Namespace, mine: str, server: str, port: int) -> bytes:
    """Everything a server sends until it closes."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with client.socket(family) as dialler:
        dialler.bind((mine, 0))
        dialler.connect((server, port))
        found = b""
        while got := dialler.recv(100):
            found += got
        return found


def settled(mesh: Mesh, closed: int) -> None:
    """Return once both ends of so many connections are closed: the kernel takes its time."""

    def both() -> list[int]:
        return [total(mesh, direction).closed for direction in Direction]

    until(lambda: both() == [closed, closed], both)


def test_connections_through_a_vip_are_counted_at_both_ends(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    for _ in range(200):
        assert fetch(client, FRIEND, VIP, 80) == f"{SERVER}:8080".encode()
    for _ in range(100):
        assert fetch(client, FRIEND6, SERVER6, 8080) == f"{SERVER6}:8080".encode()
    settled(watched, 300)
    bytes_ = 200 * GREETING + 100 * GREETING6
    out, into = total(watched, Direction.OUTBOUND), total(watched, Direction.INBOUND)
    assert (out.opened, out.closed, out.failed, out.sent, out.received) == (300, 300, 0, 0, bytes_)
    assert (into.opened, into.closed, into.failed, into.sent, into.received) == (
        300, 300, 0, bytes_, 0,
    )  # fmt: skip
    ids, services = watched.steering.workload_ids, watched.steering.service_ids
    rows = traffic(watched)
    web = services.get(WEB)
    friend, server = (ids.get(f"Kubernetes//Pod/default/{name}") for name in ("friend", "server"))
    assert {(k.workload, k.service, k.port, k.direction) for k in rows} == {
        (friend, web, 0, Direction.OUTBOUND), (friend, 0, 0, Direction.OUTBOUND),
        (server, 0, 8080, Direction.INBOUND),
    }  # fmt: skip
    assert {addr.text(k.remote) for k in rows if k.service} == {SERVER}
    assert TrafficReader(watched.plane).tallies()[Tally.ROWS] == len(rows) == 4


def test_the_records_of_one_connection_agree_with_its_counters(watched: Mesh, ends: Ends) -> None:
    pod, client = ends
    with ExitStack() as stack:
        listener = stack.enter_context(pod.socket())
        listener.bind((SERVER, 7777))
        listener.listen()
        dialler = stack.enter_context(client.socket())
        dialler.bind((FRIEND, 0))
        dialler.connect((SERVER, 7777))
        accepted = stack.enter_context(listener.accept()[0])
        dialler.sendall(bytes(100_000))
        assert len(accepted.recv(100_000, socket.MSG_WAITALL)) == 100_000
        accepted.sendall(bytes(5000))
        assert len(dialler.recv(5000, socket.MSG_WAITALL)) == 5000
        watched.plane.sweep()
        watched.plane.sweep()  # without news
        halfway = total(watched, Direction.OUTBOUND)
        assert (halfway.opened, halfway.closed) == (1, 0)
        assert (halfway.sent, halfway.received) == (100_000, 5000)
        dialler.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""
        accepted.sendall(bytes(300))
        assert len(dialler.recv(300, socket.MSG_WAITALL)) == 300
        accepted.close()
        assert dialler.recv(1) == b""
    settled(watched, 1)
    found = records(watched)
    kinds = Counter((each.kind, each.outbound) for each in found)
    assert kinds == {(kind, outbound): 1 for kind in STEPS for outbound in (True, False)}
    assert len({each.socket for each in found}) == 2
    for outbound, direction in ((True, Direction.OUTBOUND), (False, Direction.INBOUND)):
        opened, periodic, closed = (each for each in found if each.outbound == outbound)
        assert (opened.sent, opened.received) == (0, 0)
        there, back = (100_000, 5000) if outbound else (5000, 100_000)
        assert (periodic.sent, periodic.received) == (there, back)
        there, back = (100_000, 5300) if outbound else (5300, 100_000)
        assert (closed.sent, closed.received, closed.error) == (there, back, 0)
        counted = total(watched, direction)
        assert (counted.sent, counted.received) == (closed.sent, closed.received)
        assert opened.start == closed.start <= opened.time <= periodic.time <= closed.time
        assert 0 < closed.min_rtt_us < 5_000_000
        assert 0 < closed.rtt_us < 5_000_000


STEPS = (EventKind.OPEN, EventKind.PERIODIC, EventKind.CLOSE)


def test_attempts_that_fail_are_counted_with_their_reason(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    for _ in range(50):
        assert not reach(client, FRIEND, SERVER, 4444)
    with client.socket() as dialler:  # given up by the application
        dialler.setblocking(False)
        dialler.bind((FRIEND, 0))
        with suppress(BlockingIOError):
            dialler.connect(("10.1.0.77", 80))
    refused = total(watched, Direction.OUTBOUND, errno.ECONNREFUSED)
    assert (refused.opened, refused.failed, refused.closed) == (0, 50, 0)
    assert total(watched, Direction.OUTBOUND, errno.ECANCELED).failed == 1
    found = Counter((each.kind, each.error) for each in records(watched))
    assert found == {
        (EventKind.FAILED, errno.ECONNREFUSED): 50, (EventKind.FAILED, errno.ECANCELED): 1,
    }  # fmt: skip


def test_what_was_slow_to_open_is_told_with_how_long_it_took(watched: Mesh, ends: Ends) -> None:
    pod, client = ends
    switch(watched, access_log=1)
    with ExitStack() as stack:
        listener = stack.enter_context(pod.socket())
        listener.bind((SERVER, 7777))
        listener.listen(0)
        dialler = [stack.enter_context(client.socket()) for _ in range(2)]
        dialler[0].connect((SERVER, 7777))
        dialler[1].setblocking(False)
        with suppress(BlockingIOError):  # nobody has room for it: its SYN is dropped
            dialler[1].connect((SERVER, 7777))
        stack.enter_context(listener.accept()[0])
        stack.enter_context(listener.accept()[0])
    (slow,) = [each for each in records(watched) if each.kind == EventKind.SLOW]
    assert slow.outbound and slow.error == 0
    assert slow.time - slow.start >= 1_000_000_000


def test_a_connection_that_is_reset_tells_so(watched: Mesh, ends: Ends) -> None:
    pod, client = ends
    with pod.socket() as listener, client.socket() as dialler:
        listener.bind((SERVER, 7777))
        listener.listen()
        dialler.bind((FRIEND, 0))
        dialler.connect((SERVER, 7777))
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        with pytest.raises(ConnectionResetError):
            dialler.recv(1)
    settled(watched, 1)
    ends_ = [each for each in records(watched) if each.kind == EventKind.CLOSE]
    assert [each.error for each in ends_ if each.outbound] == [errno.ECONNRESET]


def test_what_policies_refuse_is_counted_at_the_server(watched: Mesh, ends: Ends) -> None:
    pod, client = ends
    watched.steering.start_guarding()
    watched.tables.remember(pod.cookie, pod.path)
    watched.tables.remember(client.cookie, client.path)
    put(watched, policy("friends", source(STRANGER, 32)))
    for _ in range(20):
        assert not reach(client, FRIEND)
    assert total(watched, Direction.INBOUND, errno.EACCES).failed == 20
    assert total(watched, Direction.OUTBOUND, errno.ECONNREFUSED).failed == 20


def test_switched_off_nothing_is_counted(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    switch(watched, metrics_off=1)
    fetch(client, FRIEND, SERVER, 8080)
    assert traffic(watched) == {}
    assert records(watched) == []


def test_without_an_access_log_there_are_no_records(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    switch(watched)
    fetch(client, FRIEND, SERVER, 8080)
    settled(watched, 1)
    assert records(watched) == []


def test_a_sample_keeps_whole_connections_and_every_error(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    switch(watched, access_log=5, sample=1 << 15)
    for _ in range(200):
        fetch(client, FRIEND, SERVER, 8080)
    for _ in range(20):
        assert not reach(client, FRIEND, SERVER, 4444)
    settled(watched, 200)
    found = records(watched)
    assert sum(each.kind == EventKind.FAILED for each in found) == 20
    steps: dict[int, list[int]] = {}
    for each in found:
        if each.kind != EventKind.FAILED:
            steps.setdefault(each.socket, []).append(each.kind)
    assert 100 < len(steps) < 300, "half of 400 ends"
    assert {tuple(kinds) for kinds in steps.values()} == {(EventKind.OPEN, EventKind.CLOSE)}


def test_connections_of_a_pod_with_itself_and_of_strangers_are_not_counted(
    mesh: Mesh, ends: Ends
) -> None:
    pod, client = ends
    servers = Servers(pod)
    try:
        servers.tcp(SERVER, 8080)
        mesh.put(workload("server", SERVER))
        mesh.enrol(pod, "server")
        assert reach(pod, SERVER, SERVER)
        mesh.plane.sweep()
        assert traffic(mesh) == {}
        assert reach(client, FRIEND, SERVER)
        mesh.plane.sweep()
        assert {k.direction for k in traffic(mesh)} == {Direction.INBOUND}
    finally:
        servers.close()


def test_records_that_do_not_fit_are_counted(bpffs: str, ends: Ends) -> None:
    pod, client = ends
    mesh = Mesh(bpffs, SMALL._replace(events=4096))
    servers = Servers(pod)
    try:
        servers.tcp(SERVER, 8080)
        mesh.put(workload("friend", FRIEND))
        mesh.enrol(client, "friend")
        switch(mesh, access_log=1)
        for _ in range(100):
            fetch(client, FRIEND, SERVER, 8080)
        tallies = TrafficReader(mesh.plane).tallies()
        assert tallies[Tally.RECORDS] + tallies[Tally.RECORDS_LOST] == 100
        assert len(records(mesh)) == tallies[Tally.RECORDS] == 4096 // (EVENT_SIZE + 8)
        assert total(mesh, Direction.OUTBOUND).closed == 100, "counters have them all"
    finally:
        servers.close()
        mesh.close()


def test_rows_that_are_pushed_out_are_counted(bpffs: str, ends: Ends) -> None:
    pod, client = ends
    mesh = Mesh(bpffs, SMALL._replace(traffic=64))
    try:
        mesh.put(workload("server", SERVER))
        mesh.enrol(pod, "server")
        growth, reader = Growth(), TrafficReader(mesh.plane)
        for start in range(0, 400, 100):
            for port in range(20_000 + start, 20_100 + start):
                with pod.socket() as listener:
                    listener.bind((SERVER, port))
                    listener.listen()
                    with client.socket() as dialler:
                        dialler.connect((SERVER, port))
                        listener.accept()[0].close()
        grown = [row for some in reader.slices() for row in growth.add(some)]
        growth.end(reader.tallies()[Tally.ROWS])
        assert len(grown) == growth.statistics().rows <= 64
        assert growth.statistics().evicted == 400 - len(grown)
    finally:
        mesh.close()


def test_a_new_agent_counts_on(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    growth, reader = Growth(), TrafficReader(watched.plane)
    opened = 0
    for turn in range(3):
        for _ in range(10):
            fetch(client, FRIEND, SERVER, 8080)
        settled(watched, 10 * (turn + 1))
        grown = [row for some in reader.slices() for row in growth.add(some)]
        growth.end(reader.tallies()[Tally.ROWS])
        opened += sum(value.opened for _, value in grown)
        assert opened == 20 * (turn + 1), "both ends"
    again = Growth()
    everything = [row for some in reader.slices() for row in again.add(some)]
    assert sum(value.opened for _, value in everything) == 60
