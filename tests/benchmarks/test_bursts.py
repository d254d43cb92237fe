"""Bursts by turns: what is compared, and that the client makes as many requests as it is told."""

from __future__ import annotations

import random
import socket
import subprocess
import threading
from collections import Counter
from contextlib import closing
from itertools import count

import pytest

from benchmarks._load import Load
from benchmarks._stage import SOURCES
from benchmarks._turns import Cell, Turn
from benchmarks.mesh import bursts
from benchmarks.mesh.beside import AGAIN, DIRECT, OURS
from benchmarks.mesh.scenarios import Case


def test_what_meets_a_whole_turn_is_not_in_the_ratio() -> None:
    at = count()

    def burst(name: str) -> float:
        slow = 1 + next(at) // 3  # each turn slower than the one before
        return 1000.0 * slow * (1.25 if name == OURS else 1.0)

    left = count()
    found = bursts.by_turns(burst, [DIRECT, OURS, AGAIN], lambda: next(left) < 20, random.Random(1))
    assert len(found) > 10
    assert {tuple(sorted(turn)) for turn in found} == {(DIRECT, AGAIN, OURS)}
    assert {tuple(turn) for turn in found} > {(DIRECT, OURS, AGAIN)}  # in another order each time
    assert bursts.rates(found) == pytest.approx({DIRECT: 1.0, OURS: 0.8, AGAIN: 1.0})


def test_without_time_there_is_one_turn() -> None:
    found = bursts.by_turns(lambda _: 1.0, [DIRECT, OURS], lambda: False, random.Random(1))
    assert found == [{DIRECT: 1.0, OURS: 1.0}]


def test_openings_that_others_disturbed_do_not_count() -> None:
    def one(rate: float, others: float) -> Turn:
        cells = {DIRECT: 1.0, OURS: rate}
        return Turn({name: Cell({"rate": each}, Counter()) for name, each in cells.items()}, others)

    case = Case("long", "1 open", burst=24)
    [row] = bursts.rows({case: [*[one(0.99, 0.01)] * 9, *[one(0.5, 1.0)] * 9]})
    assert (row["scenario"], row["case"], row["way"]) == ("long", "1 open", OURS)
    assert row["rate_ratio"] == {"median": 0.99, "low": 0.99, "high": 0.99, "values": 9}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("load") / "load"
    subprocess.run(["gcc", "-O1", "-o", str(path), str(SOURCES / "load.c")], check=True)
    return str(path)


def echo(listener: socket.socket, requests: Counter[int]) -> None:
    """Serve connections until the listener is closed; count bytes by connection."""

    def serve(number: int, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4096):
                    requests[number] += len(data)
                    connection.sendall(data)
            except ConnectionResetError:
                return

    threads = []
    for number in count():
        try:
            connection, _ = listener.accept()
        except OSError:
            break
        threads.append(threading.Thread(target=serve, args=(number, connection)))
        threads[-1].start()
    for thread in threads:
        thread.join(10)


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("kind", ["keep", "short"])
def test_the_client_makes_the_bursts_that_it_is_told(program: str, kind: str, at_once: int) -> None:
    requests: Counter[int] = Counter()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = threading.Thread(target=echo, args=(listener, requests))
        server.start()
        load = Load(kind, at_once, 0, f"127.0.0.1:{listener.getsockname()[1]}")
        command = load.command(program)
        done = subprocess.run(command, input="10\n20\n", capture_output=True, text=True, check=True)
        listener.shutdown(socket.SHUT_RDWR)
        server.join(10)
    ready, *took = done.stdout.split()
    assert ready == "ready"
    assert len(took) == 2
    assert all(int(each) > 0 for each in took)
    first = at_once if kind == "keep" else 0  # each was asked once when it was opened
    assert sum(requests.values()) == 64 * (first + 10 + 20)
    assert len(requests) == (at_once if kind == "keep" else 30)


def test_bursts_have_no_fixed_rate(program: str) -> None:
    command = Load("keep", 1, 0, "127.0.0.1:1", qps=10).command(program)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
