"""The node agent's side of ztunnel's ZDS: which pods there are, and their network namespaces.

    python -m benchmarks.mesh.zds SOCKET UID,NAME,NETNS...

Packets of protobuf over a Unix socket (SOCK_SEQPACKET): ztunnel connects and says hello; each pod
is announced with a descriptor of its namespace; then comes "that is all". ztunnel answers each with
an Ack, whose error is our end. Says "ready" when it listens, serves one ztunnel, ends with its
parent.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import NamedTuple

from benchmarks._shapes import NAMESPACE
from benchmarks.dataset import number, text

VERSION = 1
MOST = 1024  # bytes of a packet


class ZdsError(RuntimeError):
    """The other side does not keep to the protocol, or refuses a pod; the text says how."""


class Announced(NamedTuple):
    """A pod as ztunnel is told of it; ``netns`` is a path."""

    uid: str
    name: str
    netns: str
    namespace: str = NAMESPACE
    account: str = "default"


def add(pod: Announced) -> bytes:
    """WorkloadRequest.add."""
    info = text(1, pod.name) + text(2, pod.namespace) + text(3, pod.account)
    return text(1, text(1, pod.uid) + text(2, info))


def snapshot_sent() -> bytes:
    """WorkloadRequest.snapshot_sent."""
    return text(3, b"")


def check_hello(packet: bytes) -> None:
    """ZdsHello of our version. Raises ZdsError."""
    if packet != number(1, VERSION):
        raise ZdsError(f"no hello of version {VERSION}: {packet!r}")


def check_ack(packet: bytes, what: str) -> None:
    """WorkloadResponse.ack without an error. Raises ZdsError."""
    if packet == text(1, b""):
        return
    ack = packet[2:]
    if packet[:1] == b"\x0a" and ack[:1] == b"\x0a":
        raise ZdsError(f"{what}: {ack[2:].decode(errors='replace')}")
    raise ZdsError(f"{what}: no answer: {packet!r}")


def serve(connection: socket.socket, pods: list[Announced]) -> None:
    """All pods to one ztunnel, until it hangs up. Raises ZdsError."""
    check_hello(connection.recv(MOST))
    for pod in pods:
        descriptor = os.open(pod.netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            socket.send_fds(connection, [add(pod)], [descriptor])
        finally:
            os.close(descriptor)
        check_ack(connection.recv(MOST), pod.name)
    connection.send(snapshot_sent())
    check_ack(connection.recv(MOST), "snapshot")
    connection.recv(MOST)


def main() -> None:
    """Command line."""
    path, *pods = sys.argv[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        connection, _ = listener.accept()
        with connection:
            try:
                serve(connection, [Announced(*one.split(",")) for one in pods])
            except ZdsError as error:
                sys.exit(f"zds: {error}")


if __name__ == "__main__":
    main()
