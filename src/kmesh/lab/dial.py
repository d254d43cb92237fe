"""The client inside a pod: dials one target N times and counts who answers; standard library only.

``python -m kmesh.lab.dial '<json>'`` with the fields of :class:`Order`. It prints JSON lines: while
it runs ``{"done": k, "at": <monotonic seconds>}``, at last what ``connect.Report`` holds. With
``hold`` each connection stays open and must echo again once standard input has a line or ends.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import struct
import sys
import time
from collections import Counter
from typing import NamedTuple

PAYLOAD = b"echo this\n"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Order(NamedTuple):
    """What to do. ``kind``: tcp, udp (one sendto each) or udp-connected. Times in seconds."""

    host: str
    port: int
    connections: int = 1
    kind: str = "tcp"
    timeout: float = 2.0
    spacing: float = 0.0
    progress: int = 0
    hold: bool = False
    keep: float = 0.0


class WrongAnswer(Exception):
    """The peer is not a server of this lab, or did not echo."""


def main(order: Order) -> None:
    """Dial, count, report."""
    answers: Counter[str] = Counter()
    peers: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    times: list[int] = []
    held: list[socket.socket] = []
    began = time.monotonic()
    for done in range(1, order.connections + 1):
        start = time.perf_counter_ns()
        try:
            sock, name, peer = _dial(order)
        except OSError as error:
            errors[_reason(error)] += 1
        except WrongAnswer as error:
            errors[str(error)] += 1
        else:
            times.append(time.perf_counter_ns() - start)
            answers[name] += 1
            peers[peer] += 1
            if order.hold or order.keep:
                held.append(sock)
            else:
                sock.close()
        if order.progress and done % order.progress == 0:
            _say({"done": done, "at": time.monotonic()})
        if order.spacing:
            time.sleep(order.spacing)
    seconds = time.monotonic() - began
    broken = _hold(order, held)
    _say(
        {
            "connections": order.connections,
            "answers": answers,
            "errors": errors,
            "peers": peers,
            "held": len(held),
            "broken": broken,
            "seconds": round(seconds, 3),
            "microseconds": _percentiles(times),
        }
    )


def _dial(order: Order) -> tuple[socket.socket, str, str]:
    family = socket.AF_INET6 if ":" in order.host else socket.AF_INET
    tcp = order.kind == "tcp"
    sock = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    try:
        sock.settimeout(order.timeout)
        target = (order.host, order.port)
        if order.kind == "udp":
            sock.sendto(PAYLOAD, target)
            data, sender = sock.recvfrom(65536)
            return sock, _name(data), _text(sender)
        sock.connect(target)
        peer = _text(sock.getpeername())
        if not tcp:
            sock.send(PAYLOAD)
            return sock, _name(sock.recv(65536)), peer
        # A reset leaves no TIME_WAIT: 100,000 connections must not run out of ports.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(PAYLOAD)
        return sock, _name(_receive(sock)), peer
    except BaseException:
        sock.close()
        raise


def _receive(sock: socket.socket, lines: int = 2) -> bytes:
    data = b""
    while data.count(b"\n") < lines:
        more = sock.recv(65536)
        if not more:
            raise WrongAnswer("closed early")
        data += more
    return data


def _name(data: bytes) -> str:
    name, _, rest = data.partition(b"\n")
    if rest != PAYLOAD:
        raise WrongAnswer("wrong echo")
    return name.decode(errors="replace")


def _hold(order: Order, held: list[socket.socket]) -> dict[str, int]:
    """Keep connections, then have each echo once more: {reason: how many no longer do}."""
    broken: Counter[str] = Counter()
    if order.hold:
        _say({"held": len(held)})
        sys.stdin.readline()
    elif order.keep:
        select.select([], [], [], order.keep)
    for sock in held:
        try:
            if sock.type == socket.SOCK_STREAM:
                sock.sendall(PAYLOAD)
                if _receive(sock, 1) != PAYLOAD:
                    raise WrongAnswer("wrong echo")
        except OSError as error:
            broken[_reason(error)] += 1
        except WrongAnswer as error:
            broken[str(error)] += 1
        sock.close()
    return broken


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return "ETIMEDOUT"
    return errno.errorcode.get(error.errno or 0, str(error))


def _text(address: tuple[object, ...]) -> str:
    host, port = str(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _percentiles(times: list[int]) -> dict[str, float]:
    if not times:
        return {}
    ordered = sorted(times)
    at = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": len(ordered) - 1}
    return {name: round(ordered[index] / 1000, 1) for name, index in at.items()}


def _say(document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Order(**json.loads(sys.argv[1])))
