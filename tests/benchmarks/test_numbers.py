"""What the benchmarks make of the numbers they take."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import _load, _stage, _turns
from benchmarks._load import Found, Load
from benchmarks._stage import Cpu

NANOSECONDS = st.integers(0, 2**40)


def bucket(ns: int) -> int:
    """As load.c counts."""
    power = max(0, ns.bit_length() - 8)
    return power * 128 + (ns >> power)


@given(NANOSECONDS)
def test_a_bucket_is_at_most_one_percent_off(ns: int) -> None:
    low = 1000 * _load.bucket_us(bucket(ns))
    assert low <= ns + 1e-6
    assert ns - low <= max(1, ns / 128)


@given(st.lists(NANOSECONDS, min_size=1), st.sampled_from([0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_quantile_is_that_of_the_requests(all_of: list[int], part: float) -> None:
    histogram = Counter(map(bucket, all_of))
    exact = sorted(all_of)[max(0, math.ceil(part * len(all_of)) - 1)]
    assert _load.quantile_us(histogram, part) == _load.bucket_us(bucket(exact))


def test_no_requests_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no requests"):
        _load.quantile_us(Counter(), 0.5)


def found(histogram: dict[int, int], seconds: float = 1.0) -> Found:
    count = sum(histogram.values())
    return Found(count, 0, 64 * count, seconds, 10.0 * count, 20.0 * count, Counter(histogram))


def test_clients_at_the_same_time_are_one() -> None:
    merged = _load.merge([found({5: 1, 7: 2}, 1.0), found({7: 3}, 2.0)])
    assert merged.operations == 6
    assert merged.histogram == {5: 1, 7: 5}
    assert merged.seconds == 2.0
    assert merged.rate == 3.0
    assert merged.cpu_us == 180.0


def test_what_the_client_prints_is_read() -> None:
    fields = {"operations": 3, "lost": 1, "bytes": 192, "seconds": 0.5, "user_us": 1}
    text = json.dumps(fields | {"system_us": 2, "histogram": {"300": 3}})
    assert _load.parse(text) == Found(3, 1, 192, 0.5, 1, 2, Counter({300: 3}))


def test_a_load_as_the_client_takes_it() -> None:
    load = Load("keep", 4, 100, "10.0.0.1:80", (64, 65536), 1000)
    command = load.command("load")
    assert command == ["load", "keep", "4", "100", "64,65536", "1000", "10.0.0.1:80"]


def cell(rate: float, cpu: float = 1.0, histogram: dict[int, int] | None = None) -> _turns.Cell:
    return _turns.Cell({"rate": rate, "cpu_us": cpu}, Counter(histogram or {}))


def turn(direct: float, other: float, others: float = 0.0) -> _turns.Turn:
    cells = {"direct": cell(direct, 1, {100: 9}), "other": cell(other, 2, {200: 1})}
    return _turns.Turn(cells, others)


def test_a_cell_adds_up_the_cpu_of_everybody() -> None:
    all_of, seen = found({10: 4}), found({10: 1})
    client, servers, works = Cpu(40, 80), Cpu(4, 4), (Cpu(8, 0), Cpu(0, 4))
    numbers = _turns.cell(all_of, seen, _turns.costs(client, servers, *works)).numbers
    assert numbers["client_us"] == 30
    assert numbers["server_us"] == 2
    assert (numbers["proxy_us"], numbers["idle_us"]) == (3, 0)
    assert numbers["cpu_us"] == 30 + 2 + 3
    assert numbers["system_us"] == 20 + 1 + 1
    assert numbers["rate"] == 1
    assert numbers["bytes_per_s"] == 256


def test_what_would_have_been_used_anyway_is_told_apart() -> None:
    """The time's, not the requests'; never more than was used."""
    client, servers, agent = Cpu(40, 80), Cpu(4, 4), Cpu(8, 4)
    parts = _turns.costs(client, servers, agent, idle_us=5.0)
    assert (parts["proxy_us"], parts["idle_us"], parts["cpu_us"]) == (7, 5, 135)
    parts = _turns.costs(client, servers, agent, idle_us=50.0)
    assert (parts["proxy_us"], parts["idle_us"], parts["cpu_us"]) == (0, 12, 128)


def test_ratios_are_those_of_one_turn() -> None:
    # Twice as fast in either turn, while the machine was five times slower in the second.
    row = _turns.row([turn(1000, 2000), turn(200, 400)], "other", "direct")
    assert row["rate_ratio"] == {"median": 2.0, "low": 2.0, "high": 2.0, "values": 2}
    assert row["rate"] == 1200
    assert row["samples"] == 2
    assert row["p50_us"] == _load.bucket_us(200)


def test_disturbed_turns_are_left_out_but_never_all() -> None:
    calm, loud = turn(1, 1, 0.1), [turn(1, 1, 1.0 + n) for n in range(5)]
    assert _turns.kept([*loud, calm]) == [calm, loud[0]]
    assert _turns.kept(loud) == loud[:2]
    assert len(_turns.kept([calm] * 4)) == 4


@pytest.mark.parametrize(
    ("values", "median"), [([3.0], 3.0), ([1.0, 2.0], 1.5), ([1.0, 9.0, 2.0], 2.0)]
)
def test_quartiles(values: list[float], median: float) -> None:
    made = _turns.quartiles(values)
    assert made["median"] == median
    assert made["low"] <= median <= made["high"]


def test_what_listens_where_a_process_comes_from_is_not_its() -> None:
    """A namespace of its own is where it goes, and there nobody listens."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as here:
        port, mine = here.getsockname()[1], os.getpid()
        _stage.listening(mine, port, f"/proc/{mine}/ns/net")
        with pytest.raises(_stage.Failed, match="nothing listens"):
            _stage.listening(mine, port, f"/proc/{mine}/ns/uts", within=0.01)


def test_one_that_has_ended_is_not_waited_for() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(_stage.Failed, match="has ended"):
            _stage.listening(process.pid, 1, "/proc/self/ns/net", within=0.1)
