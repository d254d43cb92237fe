"""Connects without a pause until standard input ends; prints what it met.

python -m benchmarks._hammer SOURCE SERVER PORT
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import sys
import time
from collections import Counter

LOOK_EVERY = 32  # tries between two looks at standard input
KEPT = 200_000


def main() -> None:
    """Command line."""
    source, server, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    met, spent = Counter[int](), list[float]()
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        for _ in range(LOOK_EVERY):
            with socket.socket() as dialler:
                dialler.bind((source, 0))
                dialler.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                start = time.perf_counter()
                met[dialler.connect_ex((server, port))] += 1
                if len(spent) < KEPT:
                    spent.append(1e6 * (time.perf_counter() - start))
    print(json.dumps({"met": met, "p50_us": statistics.median(spent)}))


if __name__ == "__main__":
    main()
