"""What is measured: each scenario is a few cases, each case one slice of load."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from benchmarks._load import Load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BIG = 64 << 10


class Plan(NamedTuple):
    """How much: rounds of all cases, and of those with other tools; in a round of a case that a
    goal is about the cycles of all contenders, and how often connections are opened for bursts and
    for how many seconds; milliseconds of a slice; seconds of rest, in which an agent gathers its
    counters some times."""

    rounds: int
    tool_rounds: int
    goal_cycles: int
    openings: int
    burst_s: float
    slice_ms: int
    idle_s: float
    clients: int
    services: int
    endpoints: int


FULL = Plan(6, 3, 6, 14, 0.4, 120, 20.0, 2, 5000, 20)
QUICK = Plan(1, 1, 2, 2, 0.05, 60, 0.5, 2, 50, 5)


class Case(NamedTuple):
    """One row of the result. ``loads`` start at the same time, from one client namespace after
    the other; latencies are those of the first ``watched`` of them, 0 is all. With a ``tool`` a
    program of somebody else makes the load instead. What a goal is about is measured by bursts of
    so many requests, too."""

    scenario: str
    name: str
    loads: tuple[Load, ...] = ()
    service: str = "web"
    watched: int = 0
    udp: bool = False
    tool: str = ""
    burst: int = 0


def spread(load: Load, clients: int) -> tuple[Load, ...]:
    """The connections and the rate of a load over several clients; none gets less than one."""
    used = min(clients, load.connections)
    return tuple(
        load._replace(
            connections=load.connections // used + (number < load.connections % used),
            qps=load.qps // used,
        )
        for number in range(used)
    )


def long(plan: Plan) -> list[Case]:
    """64 bytes there and back on connections that stay open."""
    return [
        Case("long", f"{count} open", spread(Load("keep", count, plan.slice_ms), plan.clients),
             burst=requests)
        for count, requests in ((1, 24), (16, 64), (64, 192), (256, 768))
    ]  # fmt: skip


def short(plan: Plan) -> list[Case]:
    """Connect, 64 bytes there and back, close."""
    return [
        Case("short", f"{count} at a time", spread(Load("short", count, plan.slice_ms), 2),
             burst=requests)
        for count, requests in ((1, 16), (64, 192))
    ]  # fmt: skip


def connect(plan: Plan) -> list[Case]:
    """Connect, close."""
    return [
        Case("connect", f"{count} at a time", spread(Load("connect", count, plan.slice_ms), 2))
        for count in (1, 64)
    ]


def qps(plan: Plan) -> list[Case]:
    """A fixed rate on 16 connections; time counts from when a request was due."""
    return [
        Case("qps", f"{rate:,}/s", spread(Load("keep", 16, 4 * plan.slice_ms, qps=rate), 2))
        for rate in (500, 2000)
    ]


def size(plan: Plan) -> list[Case]:
    """So many bytes there and back on 16 connections."""
    return [
        Case("size", f"{count:,} B", spread(Load("keep", 16, plan.slice_ms, sizes=(count,)), 2))
        for count in (64, 1024, 4096, 16 << 10, BIG)
    ]


def density(plan: Plan) -> list[Case]:
    """Eight client pods at once, one connection each."""
    one = Load("keep", 1, plan.slice_ms)
    return [Case("density", f"{DENSE} clients", (one,) * DENSE)]


def hops(plan: Plan) -> list[Case]:
    """A request that passes through three pods, each of which dials a service address."""
    keep = Load("keep", 16, plan.slice_ms)
    fresh = Load("short", 8, plan.slice_ms)
    return [
        Case("hops", "3 hops, 16 open", spread(keep, 2), "hop1"),
        Case("hops", "3 hops, 8 new at a time", spread(fresh, 2), "hop1"),
    ]


def mixed(plan: Plan) -> list[Case]:
    """Small requests at a fixed rate beside large ones; latencies are those of the small."""
    small = Load("keep", 5, 4 * plan.slice_ms, qps=1000)
    big = Load("keep", 4, 4 * plan.slice_ms, sizes=(BIG,))
    return [Case("mixed", "64 B beside 64 KiB", (small, big), watched=1)]


def udp(plan: Plan) -> list[Case]:
    """Datagrams there and back on connected sockets."""
    return [
        Case("udp", f"{count} sockets, {bytes_} B",
             spread(Load("udp", count, plan.slice_ms, sizes=(bytes_,)), 2), udp=True)
        for count, bytes_ in ((1, 64), (16, 1024))
    ]  # fmt: skip


def http(plan: Plan) -> list[Case]:
    """GET by the tools that people use: wrk as fast as it can, hey at a fixed rate."""
    return [
        Case("http", "wrk, 16 open", service="http", tool="wrk"),
        Case("http", "hey, 1,000/s", service="http", tool="hey"),
    ]


def bulk(plan: Plan) -> list[Case]:
    """One TCP stream as fast as it goes."""
    return [Case("bulk", "iperf3, 1 stream", service="bulk", tool="iperf3")]


DENSE = 8
SCENARIOS: dict[str, Callable[[Plan], list[Case]]] = {
    one.__name__: one
    for one in (long, short, connect, qps, size, density, hops, mixed, udp, http, bulk)
}


def cases(names: Sequence[str], plan: Plan) -> list[Case]:
    """All cases of scenarios by name."""
    return [case for name in names for case in SCENARIOS[name](plan)]


def clients_needed(all_cases: Sequence[Case], plan: Plan) -> int:
    """How many client namespaces each contender gets."""
    return max([plan.clients, *(len(case.loads) for case in all_cases)])
