"""The server inside a pod: says the pod's name, then echoes; TCP and UDP, standard library only.

``python -m kmesh.lab.echo NETNS NAME CONTROL_FD ADDRESS,... PORT,...`` inside the namespace (NETNS
is only for those who read process lists). On TCP the name and a newline come first, then every
byte back; on UDP each datagram is answered by name, newline and its bytes.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
from typing import cast

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
CHUNK = 64 * 1024


class Peer:
    """One TCP connection; reading stops while bytes wait to be sent."""

    def __init__(self, sock: socket.socket, greeting: bytes) -> None:
        self.sock = sock
        self.pending = greeting

    def turn(self, selector: selectors.BaseSelector) -> None:
        """Move what can be moved without waiting."""
        try:
            if not self.pending:
                self.pending = self.sock.recv(CHUNK)
                if not self.pending:
                    raise ConnectionResetError
            self.pending = self.pending[self.sock.send(self.pending) :]
        except BlockingIOError:
            pass
        except OSError:  # the peer left: that is how every connection ends
            selector.unregister(self.sock)
            self.sock.close()
            return
        selector.modify(self.sock, WRITE if self.pending else READ, self)


class Datagrams:
    """One UDP socket."""

    def __init__(self, sock: socket.socket, greeting: bytes) -> None:
        self.sock = sock
        self._greeting = greeting

    def turn(self, selector: selectors.BaseSelector) -> None:
        """Answer one datagram."""
        try:
            data, sender = self.sock.recvfrom(CHUNK, socket.MSG_DONTWAIT)
            self.sock.sendto(self._greeting + data, sender)
        except BlockingIOError:
            return
        except OSError as error:
            sys.stderr.write(f"datagram not answered: {error}\n")


class Listener:
    """One listening TCP socket."""

    def __init__(self, sock: socket.socket, greeting: bytes) -> None:
        self.sock = sock
        self._greeting = greeting

    def turn(self, selector: selectors.BaseSelector) -> None:
        """Accept one connection."""
        try:
            sock, _ = self.sock.accept()
        except OSError as error:
            sys.stderr.write(f"connection not accepted: {error}\n")
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sock, WRITE, Peer(sock, self._greeting))


def serve(name: str, control: socket.socket, addresses: list[str], ports: list[int]) -> None:
    """Listen, report readiness, wait to be released, serve until killed."""
    greeting = name.encode() + b"\n"
    selector = selectors.DefaultSelector()
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for port in ports:
            listener = socket.create_server((address, port), family=family, backlog=4096)
            listener.setblocking(False)
            selector.register(listener, READ, Listener(listener, greeting))
            datagrams = socket.socket(family, socket.SOCK_DGRAM)
            datagrams.bind((address, port))
            selector.register(datagrams, READ, Datagrams(datagrams, greeting))
    with control:
        control.sendall(f"ready {os.getpid()}\n".encode())
        if not control.recv(8):
            sys.exit("whoever started this server is gone")
    # A pod without ports still has a process, so that the lab looks the same to all tools.
    idle = socket.socketpair()
    selector.register(idle[0], READ)
    while True:
        for key, _ in selector.select():
            cast("Peer | Datagrams | Listener", key.data).turn(selector)


if __name__ == "__main__":
    serve(
        sys.argv[2],
        socket.socket(fileno=int(sys.argv[3])),
        [one for one in sys.argv[4].split(",") if one],
        [int(one) for one in sys.argv[5].split(",") if one],
    )
