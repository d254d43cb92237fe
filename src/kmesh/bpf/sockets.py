"""TCP and UDP sockets of a network namespace over sock_diag: seen and ended without a program.

Source of the messages: the kernel's ``linux/inet_diag.h`` and ``linux/sock_diag.h``. Enters the
namespace while the netlink socket is made: call from a thread of its own.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from kmesh.bpf import lib
from kmesh.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NETLINK_SOCK_DIAG = 4
BY_FAMILY, DESTROY = 20, 21
REQUEST, ACK, DUMP = 1, 4, 0x300
ERROR, DONE = 2, 3
SOCKOPT = 22
TRANSPARENT = 1 << 5  # of the first byte of struct inet_diag_sockopt
HEADER = struct.Struct("=IHHII")
ASK = struct.Struct("=BBBxI")
ENDS = struct.Struct("!HH16s16s")
REST = struct.Struct("=I8s")  # interface and cookie, which name the socket
SHOWN = 4 + ENDS.size + REST.size + 20  # bytes of struct inet_diag_msg
ATTRIBUTE = struct.Struct("=HH")
ROOM = 1 << 16
ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LISTEN = 1, 2, 4, 5, 8, 10
OPEN = 1 << ESTABLISHED | 1 << FIN_WAIT1 | 1 << FIN_WAIT2 | 1 << CLOSE_WAIT
MAPPED = bytes(10) + b"\xff\xff"


class Found(NamedTuple):
    """A socket: 16-byte addresses, ports, its state, whether it is transparent (takes connections
    to any address), and the kernel's name for it."""

    local: bytes
    remote: bytes
    local_port: int
    remote_port: int
    state: int
    transparent: bool
    name: bytes


class Sockets:
    """The sockets of one namespace; ``close`` when done."""

    def __init__(self, netns: int) -> None:
        """``netns`` is an open namespace. Raises BpfError."""
        fd = lib.socket_in(netns, socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG)
        self._netlink = socket.socket(fileno=fd)

    def close(self) -> None:
        """Let go of the namespace."""
        self._netlink.close()

    def list(self, states: int, protocol: int = socket.IPPROTO_TCP) -> list[Found]:
        """The sockets whose state's bit is set; of UDP those that are connected are
        ESTABLISHED. Raises BpfError."""
        return [
            found
            for family in (socket.AF_INET, socket.AF_INET6)
            for found in self._family(family, states, protocol)
        ]

    def _family(self, family: int, states: int, protocol: int) -> Iterator[Found]:
        body = ASK.pack(family, protocol, 0, states) + bytes(ENDS.size + REST.size)
        self._send(BY_FAMILY, REQUEST | DUMP, body)
        while True:
            for kind, content in messages(self._netlink.recv(ROOM)):
                if kind == DONE:
                    return
                if kind == ERROR:
                    raise failure(content, "list sockets")
                yield parse(content, protocol)

    def end(self, found: Iterable[Found]) -> int:
        """Reset these connections at both ends, give connected UDP sockets an error; how many
        there still were. Raises BpfError where the kernel cannot (CONFIG_INET_DIAG_DESTROY)."""
        return sum(map(self._end, found))

    def _end(self, found: Found) -> bool:
        self._send(DESTROY, REQUEST | ACK, found.name)
        ((_, content),) = messages(self._netlink.recv(ROOM))
        code = -int.from_bytes(content[:4], "little", signed=True)
        if code not in (0, errno.ENOENT):
            raise failure(content, "end a connection")
        return code == 0

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._netlink.send(HEADER.pack(HEADER.size + len(body), kind, flags, 0, 0) + body)


def messages(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, content) of each netlink message in a datagram."""
    at = 0
    while at + HEADER.size <= len(raw):
        size, kind, *_ = HEADER.unpack_from(raw, at)
        if size < HEADER.size:
            return
        yield kind, raw[at + HEADER.size : at + size]
        at += (size + 3) & ~3


def parse(content: bytes, protocol: int) -> Found:
    """One struct inet_diag_msg with its attributes."""
    family, state = content[0], content[1]
    local_port, remote_port, local, remote = ENDS.unpack_from(content, 4)
    if family == socket.AF_INET:
        local, remote = MAPPED + local[:4], MAPPED + remote[:4]
    name = ASK.pack(family, protocol, 0, 1 << state) + content[4 : 4 + 48]
    options = dict(attributes(content[SHOWN:])).get(SOCKOPT, b"\0")
    return Found(
        local, remote, local_port, remote_port, state, bool(options[0] & TRANSPARENT), name
    )


def attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each netlink attribute."""
    at = 0
    while at + ATTRIBUTE.size <= len(raw):
        size, kind = ATTRIBUTE.unpack_from(raw, at)
        if size < ATTRIBUTE.size:
            return
        yield kind, raw[at + ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3


def failure(content: bytes, what: str) -> BpfError:
    """What an error message says."""
    code = -int.from_bytes(content[:4], "little", signed=True)
    return BpfError(f"cannot {what}: {os.strerror(code)}", code)
