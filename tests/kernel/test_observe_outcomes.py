"""Exact counts over thousands of real connections of every outcome, at both ends, while they are
swept and read all the time."""

from __future__ import annotations

import errno
import select
import socket
import struct
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest

from kmesh.abi.layout import Direction, EventKind, Tally, Traffic
from kmesh.bpf.traffic import TrafficReader
from kmesh.core import addr
from kmesh.core.traffic import NOTHING, Growth
from tests.core.meshes import workload
from tests.kernel.authz import policy, put, source
from tests.kernel.net import TIMEOUT, namespace, run
from tests.kernel.outcomes import OUTCOMES, drain, reset, take
from tests.kernel.test_observe import (
    FRIEND,
    FRIEND6,
    SERVER,
    SERVER6,
    records,
    settled,
    switch,
    total,
    traffic,
    watched,
)
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace


__all__ = ["watched"]
pytestmark = pytest.mark.kernel
Ends = tuple["Namespace", "Namespace"]
TIMES = 250
PORT = 7777
FAMILIES = [(socket.AF_INET, FRIEND, SERVER), (socket.AF_INET6, FRIEND6, SERVER6)]
families = pytest.mark.parametrize(("family", "mine", "server"), FAMILIES, ids=["IPv4", "IPv6"])


@contextmanager
def serving(pod: Namespace, family: int, address: str, act: Callable[[socket.socket], None]) -> (
    Iterator[None]
):  # fmt: skip
    """A server of TIMES connections."""
    with pod.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen()
        failures: list[BaseException] = []

        def serve() -> None:
            try:
                for _ in range(TIMES):
                    accepted, _ = listener.accept()
                    with accepted:
                        accepted.settimeout(TIMEOUT)
                        act(accepted)
            except BaseException as error:  # noqa: BLE001 raised below
                failures.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()
        if failures:
            raise failures[0]


def connected(family: int, mine: str, server: str) -> socket.socket:
    """One connection of the namespace in which this thread is."""
    one = socket.socket(family)
    try:
        one.settimeout(TIMEOUT)
        one.bind((mine, 0))
        one.connect((server, PORT))
    except OSError:
        one.close()
        raise
    return one


class Looking:
    """Sweeps and reads all the time; what it saw growing adds up to what there is."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh, self._reader, self._growth = mesh, TrafficReader(mesh.plane), Growth()
        self.sum = NOTHING
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._mesh.plane.sweep()
            self.look()
            time.sleep(0.002)

    def look(self) -> None:
        made = self._reader.tallies()[Tally.ROWS]
        for some in self._reader.slices():
            for _, grown in self._growth.add(some):
                self.sum = Traffic(*(a + b for a, b in zip(self.sum, grown, strict=True)))
        self._growth.end(made)

    def close(self) -> Traffic:
        """End; what it saw, with a last look."""
        self._stop.set()
        self._thread.join()
        self.look()
        assert self._growth.statistics().evicted == 0
        return self.sum


@families
def test_every_end_of_a_connection_is_counted_once(
    watched: Mesh, ends: Ends, family: int, mine: str, server: str
) -> None:
    pod, client = ends
    looking = Looking(watched)
    try:
        for outcome in OUTCOMES.values():

            def all_of(act: Callable[[socket.socket], None] = outcome.client) -> None:
                for _ in range(TIMES):
                    with connected(family, mine, server) as one:
                        act(one)

            with serving(pod, family, server, outcome.server):
                client.run(all_of)
        settled(watched, TIMES * len(OUTCOMES))
    finally:
        seen = looking.close()
    sent = TIMES * sum(outcome.sent for outcome in OUTCOMES.values())
    received = TIMES * sum(outcome.received for outcome in OUTCOMES.values())
    count = TIMES * len(OUTCOMES)
    out, into = total(watched, Direction.OUTBOUND), total(watched, Direction.INBOUND)
    assert (out.opened, out.closed, out.failed) == (count, count, 0)
    assert (into.opened, into.closed, into.failed) == (count, count, 0)
    assert (out.sent, out.received) == (into.received, into.sent) == (sent, received)
    assert (seen.opened, seen.closed) == (2 * count, 2 * count)
    assert seen.sent + seen.received == 2 * (sent + received)
    assert {addr.is_ipv4(key.remote) for key in traffic(watched)} == {family == socket.AF_INET}


@families
def test_what_is_refused_timed_out_or_denied_is_counted_once_with_its_reason(
    watched: Mesh, ends: Ends, family: int, mine: str, server: str
) -> None:
    pod, client = ends
    expired = 40
    switch(watched)

    def refused() -> None:
        for _ in range(4 * TIMES):
            with pytest.raises(ConnectionRefusedError):
                connected(family, mine, server)

    client.run(refused)
    with pod.socket(family) as listener, ExitStack() as stack:
        listener.bind((server, PORT))
        listener.listen(0)
        client.run(lambda: stack.enter_context(connected(family, mine, server)))
        assert client.run(lambda: silent(family, server, expired)) == [errno.ETIMEDOUT] * expired
    settled(watched, 1)
    watched.steering.start_guarding()
    for each in ends:
        watched.tables.remember(each.cookie, each.path)
    put(watched, policy("strangers", source("10.1.0.3", 32)))
    client.run(refused)
    for direction, error, count in (
        (Direction.OUTBOUND, errno.ECONNREFUSED, 8 * TIMES),
        (Direction.OUTBOUND, errno.ETIMEDOUT, expired),
        (Direction.INBOUND, errno.EACCES, 4 * TIMES),
    ):
        found = total(watched, direction, error)
        assert (found.failed, found.opened, found.closed) == (count, 0, 0)
    rest = {key.result for key in traffic(watched)}
    assert rest == {0, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EACCES}


def silent(family: int, server: str, count: int) -> list[int]:
    """Errors of connects that nobody answers, the backlog being full."""
    with ExitStack() as stack:
        poll = select.poll()
        diallers = {}
        for _ in range(count):
            one = stack.enter_context(socket.socket(family))
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 200)
            assert one.connect_ex((server, PORT)) == errno.EINPROGRESS
            poll.register(one, select.POLLOUT)
            diallers[one.fileno()] = one
        found: list[int] = []
        while len(found) < count:
            ready = poll.poll(20_000)
            assert ready, "no time-out after 20 seconds"
            for fd, _ in ready:
                found.append(diallers[fd].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                poll.unregister(fd)
        return found


def test_flows_of_udp_are_exact_in_their_thousands(watched: Mesh, ends: Ends) -> None:
    _, client = ends

    def flows(family: int, server: str) -> None:
        for _ in range(4 * TIMES):
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                for _ in range(3):
                    sender.sendto(b"x", (server, 9999))

    for family, _, server in FAMILIES:
        client.run(partial(flows, family, server))
    udp = {key.remote: row for key, row in traffic(watched).items() if key.protocol == 17}
    assert {addr.text(key): row.opened for key, row in udp.items()} == {
        SERVER: 4 * TIMES, SERVER6: 4 * TIMES,
    }  # fmt: skip


def test_a_socket_that_dials_again_is_another_connection(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    with client.socket() as one:
        one.settimeout(None)
        for _ in range(5):
            assert one.connect_ex((SERVER, 4444)) == errno.ECONNREFUSED
        one.connect((SERVER, 8080))
        drain(one)
    settled(watched, 1)
    assert total(watched, Direction.OUTBOUND, errno.ECONNREFUSED).failed == 5
    out = total(watched, Direction.OUTBOUND)
    assert (out.opened, out.closed) == (1, 1)


def test_numbers_are_the_kernels_own_in_their_units(watched: Mesh, ends: Ends) -> None:
    """Against TCP_INFO of the same socket: microseconds, segments, bytes; times are those of
    CLOCK_MONOTONIC."""
    pod, client = ends
    before = time.monotonic_ns()
    with pod.socket() as listener, client.socket() as dialler:
        listener.bind((SERVER, PORT))
        listener.listen()
        dialler.connect((SERVER, PORT))
        accepted, _ = listener.accept()
        with accepted:
            dialler.sendall(bytes(1000))
            take(accepted, 1000)
            run("ip", "-n", pod.name, "link", "set", "eth0", "down", text="")
            dialler.sendall(bytes(500))
            until(lambda: tcp_info(dialler).retransmits >= 1)
            run("ip", "-n", pod.name, "link", "set", "eth0", "up", text="")
            take(accepted, 500)
            until(lambda: tcp_info(dialler).unacked == 0)
            own = tcp_info(dialler)
            watched.plane.sweep()
            (told,) = (
                one for one in records(watched) if one.kind == EventKind.PERIODIC and one.outbound
            )
    assert (told.rtt_us, told.min_rtt_us) == (own.rtt_us, own.min_rtt_us)
    assert told.retransmits == own.retransmits >= 1
    assert told.sent == 1500
    assert before <= told.start <= told.time <= time.monotonic_ns()
    assert total(watched, Direction.OUTBOUND).retransmits == told.retransmits


class TcpInfo(NamedTuple):
    """Of struct tcp_info in linux/tcp.h."""

    unacked: int
    rtt_us: int
    min_rtt_us: int
    retransmits: int


def tcp_info(one: socket.socket) -> TcpInfo:
    raw = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    offsets = (24, 68, 148, 100)
    return TcpInfo(*(struct.unpack_from("=I", raw, offset)[0] for offset in offsets))


@pytest.mark.parametrize("cut", [False, True], ids=["closed", "cut off"])
def test_a_namespace_that_goes_takes_its_open_connections_along(
    mesh: Mesh, pod: Namespace, cut: bool
) -> None:
    count = 200
    held: list[socket.socket] = []
    with pod.socket() as listener, ExitStack() as stack:
        with namespace() as client:
            link = f"link add eth0 netns {pod.name} type veth peer name eth0 netns {client.name}"
            run("ip", "-batch", "-", text=link)
            for where, address in ((pod, "10.3.0.1/24"), (client, "10.3.0.2/24")):
                lines = [f"addr add {address} dev eth0", "link set eth0 up"]
                run("ip", "-n", where.name, "-batch", "-", text="\n".join(lines))
            mesh.put(workload("server", "10.3.0.1"), workload("friend", "10.3.0.2"))
            mesh.enrol(pod, "server")
            mesh.enrol(client, "friend")
            listener.bind(("10.3.0.1", PORT))
            listener.listen(count)
            for _ in range(count):
                held.append(stack.enter_context(client.socket()))
                held[-1].connect(("10.3.0.1", PORT))
                held[-1].sendall(b"x" * 10)
                held.append(stack.enter_context(listener.accept()[0]))
                take(held[-1], 10)
            mesh.plane.sweep()
            assert total(mesh, Direction.OUTBOUND).opened == count
            mesh.steering.withdraw(client.cookie)
            mesh.settle()
        if cut:
            run("ip", "-n", pod.name, "link", "del", "eth0", text="")
        mesh.plane.sweep()
        for each in (total(mesh, direction) for direction in Direction):
            assert (each.opened, each.closed) == (count, 0)
        for end in held:
            reset(end)
    settled(mesh, count)
    out, into = total(mesh, Direction.OUTBOUND), total(mesh, Direction.INBOUND)
    assert (out.opened, out.sent, into.opened, into.received) == (count, 10 * count) * 2
