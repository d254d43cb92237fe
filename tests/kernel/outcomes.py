"""What the two ends of a connection do with it, from a clean end to a cut."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


RESET = struct.pack("ii", 1, 0)


class Outcome(NamedTuple):
    """What both ends do with a connection, and how many bytes the client sends and receives."""

    client: Callable[[socket.socket], None]
    server: Callable[[socket.socket], None]
    sent: int
    received: int


def take(one: socket.socket, count: int) -> None:
    assert len(one.recv(count, socket.MSG_WAITALL)) == count


def drain(one: socket.socket) -> None:
    while one.recv(100):
        pass


def reset(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    one.close()


def served_client(one: socket.socket) -> None:
    one.sendall(bytes(10))
    drain(one)


def served_server(one: socket.socket) -> None:
    take(one, 10)
    one.sendall(bytes(20))


def half_client(one: socket.socket) -> None:
    one.sendall(bytes(7))
    one.shutdown(socket.SHUT_WR)
    drain(one)


def half_server(one: socket.socket) -> None:
    drain(one)
    one.sendall(bytes(5))


def cut_client(one: socket.socket) -> None:
    one.sendall(bytes(10))
    with pytest.raises(ConnectionResetError):
        one.recv(1)


def cut_server(one: socket.socket) -> None:
    take(one, 10)
    reset(one)


def cutting_client(one: socket.socket) -> None:
    one.sendall(bytes(10))
    take(one, 1)
    reset(one)


def cutting_server(one: socket.socket) -> None:
    take(one, 10)
    one.sendall(b"x")
    with pytest.raises(ConnectionResetError):
        one.recv(1)


OUTCOMES = {
    "served": Outcome(served_client, served_server, 10, 20),
    "half closed": Outcome(half_client, half_server, 7, 5),
    "reset by the server": Outcome(cut_client, cut_server, 10, 0),
    "reset by the client": Outcome(cutting_client, cutting_server, 10, 1),
}
