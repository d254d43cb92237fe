"""A network namespace for one test: every address lies on its loopback, nothing leads out."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, TypeVar

from kmesh.bpf import lib
from tests.waiting import SLOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

R = TypeVar("R")
CLONE_NEWNET = 0x40000000
TIMEOUT = 20.0 * SLOW  # of a socket


class Namespace:
    """One namespace with its cookie; ``run`` calls a function inside it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"/run/netns/{name}"
        self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.cookie = self.run(lambda: lib.netns_cookie(self.fd))

    def run(self, call: Callable[[], R]) -> R:
        """The result (or exception) of a call made in a thread of its own inside the namespace."""
        results: list[R] = []
        errors: list[BaseException] = []

        def inside() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(self.fd, CLONE_NEWNET):
                errors.append(OSError(ctypes.get_errno(), "setns"))
                return
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 handed to the caller
                errors.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket that lives in the namespace."""

        def make() -> socket.socket:
            made = socket.socket(family, kind)
            made.settimeout(TIMEOUT)
            return made

        return self.run(make)

    def close(self) -> None:
        """Let go of it; the creator removes it."""
        os.close(self.fd)


@contextlib.contextmanager
def namespace(*addresses: str) -> Iterator[Namespace]:
    """A namespace with these addresses on its loopback."""
    name = f"kmesh-test-{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        lines = ["link set lo up"]
        for address in addresses:
            bits = "128 nodad" if ":" in address else "32"
            lines.append(
                f"addr add {address}/{bits.replace(' ', ' dev lo ', 1)}"
                if ":" in address
                else f"addr add {address}/32 dev lo"
            )
        subprocess.run(
            ["ip", "-n", name, "-batch", "-"], input="\n".join(lines), text=True, check=True
        )
        made = Namespace(name)
        try:
            yield made
        finally:
            made.close()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


class Servers:
    """Servers in a namespace that answer everything with ``<address>:<port>``."""

    def __init__(self, where: Namespace) -> None:
        self._where = where
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()

    def tcp(self, address: str, port: int) -> None:
        """Greets each connection and closes it."""
        listener = self._bind(address, port, socket.SOCK_STREAM)
        listener.listen(512)
        self._start(self._greet, listener, f"{address}:{port}".encode())

    def udp(self, address: str, port: int) -> None:
        """Answers each datagram."""
        self._start(
            self._reply, self._bind(address, port, socket.SOCK_DGRAM), f"{address}:{port}".encode()
        )

    def close(self) -> None:
        """Stop them all."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _bind(self, address: str, port: int, kind: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        bound = self._where.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        bound.settimeout(0.1)
        self._sockets.append(bound)
        return bound

    def _start(
        self, serve: Callable[[socket.socket, bytes], None], bound: socket.socket, text: bytes
    ) -> None:
        thread = threading.Thread(target=serve, args=(bound, text))
        thread.start()
        self._threads.append(thread)

    def _greet(self, listener: socket.socket, text: bytes) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(text)

    def _reply(self, bound: socket.socket, text: bytes) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                _, peer = bound.recvfrom(100)
                bound.sendto(text, peer)


def run(*command: str, text: str) -> None:
    """A command with this input; raises CalledProcessError."""
    subprocess.run(command, input=text, text=True, check=True)
