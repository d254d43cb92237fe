"""Opens connections and holds them until standard input has a line; prints what became of them.

python -m benchmarks._hold SOURCE SERVER PORT COUNT
"""

from __future__ import annotations

import json
import resource
import socket
import sys


def main() -> None:
    """Command line."""
    source, server, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    held = []
    for _ in range(count):
        dialler = socket.socket()
        dialler.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        dialler.bind((source, 0))
        dialler.connect((server, port))
        dialler.setblocking(False)
        held.append(dialler)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps({"reset": sum(map(reset, held)), "held": len(held)}))


def reset(dialler: socket.socket) -> bool:
    """Whether the other end has ended the connection with a reset."""
    try:
        dialler.recv(1)
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False
    raise RuntimeError("the server closed a connection")


if __name__ == "__main__":
    main()
