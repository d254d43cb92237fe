"""Where the connections that are watched are kept: in a place by cookie, else with the socket."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.layout import WATCHED_SIZE, Conn, Direction, Tally, Watched
from kmesh.bpf import lib
from kmesh.bpf.traffic import TrafficReader
from tests.kernel.net import TIMEOUT
from tests.kernel.outcomes import reset, take
from tests.kernel.test_observe import (
    FRIEND,
    SERVER,
    fetch,
    settled,
    switch,
    total,
    watched,
)
from tests.kernel.test_observe_outcomes import families

if TYPE_CHECKING:
    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace

    Ends = tuple[Namespace, Namespace]

__all__ = ["watched"]
pytestmark = pytest.mark.kernel
PORT = 7777
SO_COOKIE = 57
STRANGER = 1 << 60  # a cookie that no socket has
PLACES = 4096


def cookie(one: socket.socket) -> int:
    return int.from_bytes(one.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


def neighbour(family: int, place: int) -> socket.socket:
    """A socket whose place is this one, in the namespace in which this thread is."""
    for _ in range(20 * PLACES):
        one = socket.socket(family)
        if cookie(one) % PLACES == place:
            one.settimeout(TIMEOUT)
            return one
        one.close()
    raise AssertionError("cookies are not counted up")


def row(mesh: Mesh, place: int) -> Watched:
    raw = lib.lookup(mesh.plane.maps["km_watched"], place.to_bytes(4, "little"), WATCHED_SIZE)
    assert raw is not None
    return Watched.unpack(raw)


def put(mesh: Mesh, place: int, value: Watched) -> None:
    lib.update(mesh.plane.maps["km_watched"], place.to_bytes(4, "little"), value.pack())


def owners(mesh: Mesh) -> set[int]:
    """The cookies of those that have a place."""
    found = (Watched.unpack(value) for _, value in lib.rows(mesh.plane.maps["km_watched"]))
    return {each.socket for each in found} - {0, STRANGER}


def give_all(mesh: Mesh, owner: int) -> None:
    """As if one socket had every place, so that each connection needs storage; 0 makes room."""
    fd = mesh.plane.maps["km_watched"]
    value = owner.to_bytes(8, "little").ljust(WATCHED_SIZE, b"\0")
    rows = [(place.to_bytes(4, "little"), value) for place in range(PLACES)]
    for start in range(0, PLACES, lib.BATCH):
        _, error = lib.update_many(fd, rows[start : start + lib.BATCH])
        assert error is None


def crowded(mesh: Mesh) -> int:
    return TrafficReader(mesh.plane).tallies()[Tally.CROWDED]


def outbound(mesh: Mesh) -> tuple[int, int, int, int]:
    found = total(mesh, Direction.OUTBOUND)
    return found.opened, found.closed, found.sent, found.received


class Held:
    """A listener, and connections to it that are open until they are closed."""

    def __init__(self, stack: ExitStack, ends: Ends, family: int, server: str) -> None:
        self._stack, self._client, self._at = stack, ends[1], (server, PORT)
        self.family = family
        self._listener = stack.enter_context(ends[0].socket(family))
        self._listener.bind(self._at)
        self._listener.listen()

    def open(self, place: int | None = None) -> tuple[socket.socket, socket.socket]:
        """A connection whose dialler has this place, if any is wanted; both ends."""
        dialler = self._stack.enter_context(
            self._client.socket(self.family)
            if place is None
            else self._client.run(lambda: neighbour(self.family, place))
        )
        dialler.connect(self._at)
        return dialler, self.accept()

    def accept(self) -> socket.socket:
        """The server's end of the next connection."""
        accepted = self._stack.enter_context(self._listener.accept()[0])
        accepted.settimeout(TIMEOUT)
        return accepted


def carry(ends: tuple[socket.socket, socket.socket], there: int, back: int) -> None:
    dialler, accepted = ends
    dialler.sendall(bytes(there))
    take(accepted, there)
    accepted.sendall(bytes(back))
    take(dialler, back)


@families
def test_of_two_connections_with_one_place_each_is_counted(
    watched: Mesh, ends: Ends, family: int, mine: str, server: str
) -> None:
    with ExitStack() as stack:
        held = Held(stack, ends, family, server)
        first = held.open()
        place = cookie(first[0]) % PLACES
        second = held.open(place)
        assert row(watched, place).socket == cookie(first[0])
        assert cookie(first[1]) in owners(watched), "what was accepted has one too"
        assert cookie(second[0]) not in owners(watched)
        assert crowded(watched) >= 1
        carry(first, 10, 20)
        carry(second, 300, 400)
        watched.plane.sweep()
        assert outbound(watched) == (2, 0, 310, 420)
        for each in (*second, *first):
            each.close()
        settled(watched, 2)
    into = total(watched, Direction.INBOUND)
    assert outbound(watched) == (2, 2, 310, 420)
    assert (into.opened, into.closed, into.sent, into.received) == (2, 2, 420, 310)
    assert owners(watched) == set()


def test_a_place_is_the_next_ones_after_the_end(watched: Mesh, ends: Ends) -> None:
    with ExitStack() as stack:
        held = Held(stack, ends, socket.AF_INET, SERVER)
        first = held.open()
        place = cookie(first[0]) % PLACES
        carry(first, 10, 10)
        for each in first:
            each.close()
        settled(watched, 1)
        assert owners(watched) == set()
        second = held.open(place)
        assert row(watched, place).socket == cookie(second[0])
        conn = Conn.unpack(row(watched, place).conn)
        assert (conn.sent, conn.remote_port) == (0, PORT)
        carry(second, 5, 5)
    settled(watched, 2)
    assert outbound(watched) == (2, 2, 15, 15)


def test_what_arrives_after_the_application_closed_is_counted(watched: Mesh, ends: Ends) -> None:
    with ExitStack() as stack:
        held = Held(stack, ends, socket.AF_INET, SERVER)
        dialler, accepted = held.open()
        place = cookie(dialler) % PLACES
        dialler.setblocking(False)
        sent = 0
        try:
            while True:
                sent += dialler.send(bytes(1 << 16))
        except BlockingIOError:
            pass
        dialler.close()
        assert row(watched, place).socket, "the connection is not over yet"
        watched.plane.sweep()
        assert outbound(watched)[:2] == (1, 0)
        assert outbound(watched)[2] < sent, "the receiver has no room for it"
        received = 0
        while got := accepted.recv(1 << 16):
            received += len(got)
    settled(watched, 1)
    assert received == sent
    assert outbound(watched) == (1, 1, sent, 0)
    assert total(watched, Direction.INBOUND).received == sent


def test_what_is_being_dialled_is_not_open_to_a_sweep(watched: Mesh, ends: Ends) -> None:
    switch(watched)
    with ExitStack() as stack:
        listener = stack.enter_context(ends[0].socket())
        listener.bind((SERVER, PORT))
        listener.listen(0)
        first, second = (stack.enter_context(ends[1].socket()) for _ in range(2))
        first.connect((SERVER, PORT))
        second.setblocking(False)
        assert second.connect_ex((SERVER, PORT)) == errno.EINPROGRESS, "nobody has room for it"
        assert {cookie(first), cookie(second)} <= owners(watched)
        watched.plane.sweep()
        assert outbound(watched) == (1, 0, 0, 0)
        second.close()
        assert total(watched, Direction.OUTBOUND, errno.ECANCELED).failed == 1
    settled(watched, 1)
    assert outbound(watched) == (1, 1, 0, 0)
    assert owners(watched) == set()


def test_a_place_whose_socket_has_gone_without_a_word_is_found(watched: Mesh, ends: Ends) -> None:
    with ExitStack() as stack:
        held = Held(stack, ends, socket.AF_INET, SERVER)
        gone, there = held.open(), held.open()
        place, other = (cookie(each[0]) % PLACES for each in (gone, there))
        carry(gone, 10, 10)
        left = row(watched, place)
        for each in gone:
            each.close()
        settled(watched, 1)
        put(watched, place, left)
        free = (place + 1) % PLACES if (place + 1) % PLACES != other else (place + 2) % PLACES
        put(watched, free, row(watched, other)._replace(socket=STRANGER + 1))
        before = outbound(watched)
        watched.plane.sweep()
        assert row(watched, place).socket == row(watched, free).socket == 0
        assert row(watched, other).socket == cookie(there[0])
        opened, closed, sent, received = before
        assert outbound(watched) == (opened + 1, closed, sent, received), "the one that is there"
        carry(held.open(place), 3, 3)
    settled(watched, 3)
    assert outbound(watched) == (3, 3, 13, 13)


def test_without_places_every_connection_is_counted_in_storage(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    give_all(watched, STRANGER)
    switch(watched)
    for _ in range(100):
        fetch(client, FRIEND, SERVER, 8080)
        watched.plane.sweep()
    settled(watched, 100)
    assert outbound(watched) == (100, 100, 0, 100 * len(f"{SERVER}:8080"))
    assert crowded(watched) == 200
    assert owners(watched) == set()


def test_what_began_in_storage_ends_there_when_places_are_free(watched: Mesh, ends: Ends) -> None:
    """So do connections that a build without places has left open."""
    with ExitStack() as stack:
        held = Held(stack, ends, socket.AF_INET, SERVER)
        give_all(watched, STRANGER)
        old = held.open()
        give_all(watched, 0)
        carry(old, 10, 20)
        watched.plane.sweep()
        watched.plane.sweep()
        assert outbound(watched) == (1, 0, 10, 20)
        carry(held.open(), 1, 2)
        carry(old, 10, 20)
    settled(watched, 2)
    assert outbound(watched) == (2, 2, 21, 42)


def test_what_storage_has_of_a_connection_before_is_not_the_next_ones(
    watched: Mesh, ends: Ends
) -> None:
    with ExitStack() as stack:
        held = Held(stack, ends, socket.AF_INET, SERVER)
        give_all(watched, STRANGER)
        dialler = stack.enter_context(ends[1].socket())
        dialler.settimeout(None)
        assert dialler.connect_ex((SERVER, 4444)) == errno.ECONNREFUSED
        switch(watched, metrics_off=1)
        dialler.connect((SERVER, PORT))
        unseen = dialler, held.accept()
        carry(unseen, 10, 20)
        switch(watched)
        for each in unseen:
            reset(each)
        carry(held.open(), 1, 2)
        watched.plane.sweep()
        assert outbound(watched) == (1, 0, 1, 2)
    settled(watched, 1)
    assert outbound(watched) == (1, 1, 1, 2)
    assert total(watched, Direction.OUTBOUND, errno.ECONNREFUSED).failed == 1
