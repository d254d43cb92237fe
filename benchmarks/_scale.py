"""The measurements of ``scale``: one agent, one mesh, one thing that happens to it."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import _agent, _shapes
from benchmarks._server import Server
from benchmarks._stage import Failed, Place, cpu_us
from kmesh.state import quantiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks._agent import Agent
    from benchmarks._stage import Stage

Numbers = dict[str, Any]
IDLE, SAMPLES = 0.5, 25  # seconds, looks meanwhile
TIMES = 5  # reconnects of which the mean is taken
PIECE = 1 << 18


class World(NamedTuple):
    """An agent that has the whole mesh, and its control plane."""

    stage: Stage
    server: Server
    agent: Agent


class Count(NamedTuple):
    """What the agent holds when it has everything."""

    workloads: int
    services: int
    policies: int = 0

    def reached(self, state: dict[str, Any]) -> bool:
        """Whether it does."""
        planner, guards = state["planner"], state["authorization"]
        counts = planner["workloads"], planner["services"], guards["policies"]
        return bool(state["synced"]) and counts == tuple(self)


@contextmanager
def world(
    stage: Stage, name: str, put: Callable[[Server], Count], numbers: Numbers, *options: str
) -> Iterator[World]:
    """A cold start; what it cost goes into ``numbers``. ``options`` are the agent's."""
    server = Server(stage)
    count = put(server)
    with _agent.running(stage, server.address, name, *options) as agent:
        answered = server.call("acked")
        seconds = agent.wait(count.reached)
        found = cold(agent, seconds, answered["ms"]) | refused(answered)
        numbers |= {"resources": sum(count), "cold": found}
        yield World(stage, server, agent)
    server.end()


def cold(agent: Agent, seconds: float, answered: list[float]) -> Numbers:
    """What it took until everything was in the kernel, the process's start not counted."""
    state = agent.client.state()
    process, lag = state["process"], state["loop"]
    maps = agent.maps()
    return {
        "start_cpu_s": process["start_cpu_seconds"],
        "cpu_s": process["cpu_seconds"] - process["start_cpu_seconds"],
        "acked_s": max(answered, default=0.0) / 1000,
        "wall_s": seconds,
        "rss_mib": agent.rss_kib() / 1024,
        "peak_rss_mib": process["peak_rss_kib"] / 1024,
        "stall_ms": 1000 * lag["longest"],
        "stall_cpu_ms": 1000 * lag["longest_cpu"],
        "map_mib": sum(maps.values()) / (1 << 20),
        "maps": dict(sorted(maps.items(), key=lambda item: -item[1])[:8]),
        "records": state["planner"]["records"],
        "slots": state["planner"]["segments"]["used"],
    }


@contextmanager
def watched(agent: Agent, numbers: Numbers) -> Iterator[None]:
    """What the agent spends within the block: CPU, stalls, memory."""
    agent.client.state()  # starts a new "recent"
    before = cpu_us(agent.cgroup)
    yield
    used = [now - start for now, start in zip(cpu_us(agent.cgroup), before, strict=True)]
    lag = agent.client.state()["loop"]
    numbers |= {
        "cpu_s": sum(used) / 1e6,
        "system_s": used[1] / 1e6,
        "stall_ms": 1000 * lag["recent"],
        "stall_cpu_ms": 1000 * lag["recent_cpu"],
        "rss_mib": agent.rss_kib() / 1024,
    }


def happens(one: World, do: str, **arguments: Any) -> Numbers:
    """One command, until the agent has answered everything it led to."""
    numbers: Numbers = {}
    with watched(one.agent, numbers):
        numbers["resources"] = one.server.call(do, **arguments)
        answered = one.server.call("acked")
    return numbers | {"acked_ms": spread(answered["ms"])} | refused(answered)


def reconnect(one: World, workloads: int, changed: int, times: int = 1) -> Numbers:
    """The stream ends, some workloads change, the agent comes back with its versions."""
    numbers: Numbers = {"changed": changed}
    before = one.agent.client.state()["xds"]
    with watched(one.agent, numbers):
        start, answered = time.monotonic(), list[float]()
        for _ in range(times):
            one.server.call("down")
            one.server.call("flip", count=changed, workloads=workloads)
            one.server.call("up")
            answered += one.server.call("acked")["ms"]
        numbers["acked_ms"] = spread(answered)
        numbers["wall_s"] = (time.monotonic() - start) / times
    one.agent.wait(lambda state: bool(state["synced"]))
    state = one.agent.client.state()["xds"]
    if state["attempts"] < before["attempts"] + times:
        raise Failed("the agent has not noticed that the stream ended")
    moved = {name: (state[name] - before[name]) // times for name in ("bytes_in", "bytes_out")}
    return numbers | moved


def unchanged(one: World, workloads: int, idle_for: float) -> Numbers:
    """The mean of TIMES reconnects in a row in which nothing changes: neither the grain of the
    kernel's clock nor what the agent does every few seconds decides. ``cpu_s`` is without
    ``idle_s``, what it uses in as much time when nothing happens; ``bare_s`` is what a program uses
    that does no more than to send and to receive as many bytes and to compare these."""
    time.sleep(1)
    start, before = time.monotonic(), sum(cpu_us(one.agent.cgroup))
    time.sleep(idle_for)
    used = (sum(cpu_us(one.agent.cgroup)) - before) / 1e6 / (time.monotonic() - start)
    numbers = reconnect(one, workloads, 0, TIMES)
    idle = used * numbers["wall_s"]
    return numbers | {
        "times": TIMES,
        "cpu_s": numbers["cpu_s"] / TIMES - idle,
        "idle_s": idle,
        "bare_s": bare(one.stage, numbers["bytes_out"], numbers["bytes_in"]),
    }


def bare(stage: Stage, out: int, into: int) -> float:
    """CPU seconds of receive.c, which sends and receives so many bytes; the mean of TIMES."""
    program, spent = stage.compile("receive"), 0.0
    for _ in range(TIMES):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            where = f"127.0.0.1:{listener.getsockname()[1]}"
            answers = threading.Thread(target=_answers, args=(listener, out, into))
            answers.start()
            spent += float(stage.run([program, where, str(out), str(into)], Place()))
            answers.join()
    return spent / TIMES


def _answers(listener: socket.socket, out: int, into: int) -> None:
    """Take so many bytes, then send so many."""
    peer, _ = listener.accept()
    room = bytearray(PIECE)
    with peer:
        while out:
            out -= peer.recv_into(room, min(out, PIECE))
        while into:
            into -= peer.send(bytes(min(into, PIECE)))


def churn(one: World, workloads: int, seconds: float, rate: int) -> Numbers:
    """A steady rate of changes. ``visible_ms`` is what the agent measures: from the first byte of a
    response to its last map write, of the last 2,048 responses."""
    numbers = happens(one, "churn", workloads=workloads, seconds=seconds, rate=rate)
    visible = one.agent.client.state()["writer"]["visible_ms"]
    per_second = numbers["resources"] / seconds
    return numbers | {
        "rate": rate,
        "per_s": per_second,
        "cores": numbers["cpu_s"] / seconds,
        "us_each": 1e6 * numbers["cpu_s"] / numbers["resources"],
        "visible_ms": visible,
    }


def refused(answered: dict[str, Any]) -> Numbers:
    """How many responses were refused, which the control plane may send again, and why the last."""
    return {"nacks": answered["nacks"], "why": answered["why"]} if answered["nacks"] else {}


def spread(milliseconds: list[float]) -> Numbers:
    """Count, p50, p99 and the longest."""
    return quantiles([each / 1000 for each in milliseconds])


def large(workloads: int, services: int) -> Callable[[Server], Count]:
    """The mesh of ``dataset``."""

    def put(server: Server) -> Count:
        server.call("mesh", workloads=workloads, services=services)
        return Count(workloads, services)

    return put


def shape(name: str, workloads: int, services: int, **sizes: int) -> Callable[[Server], Count]:
    """One of ``_shapes``, which makes so many workloads and services."""

    def put(server: Server) -> Count:
        server.call("shape", name=name, **sizes)
        return Count(workloads, services)

    return put


def policies(count: int, namespaces: int) -> Callable[[Server], Count]:
    """Policies, and a pod to which those of one namespace apply."""

    def put(server: Server) -> Count:
        server.call("shape", name="policies", count=count, namespaces=namespaces)
        server.call("pod", name="guarded", address="10.3.0.1", of={}, node=_agent.NODE)
        return Count(1, 0, count)

    return put


def enrolled(one: World) -> Numbers:
    """The pod of ``policies`` is enrolled: its policies go into the kernel."""
    numbers: Numbers = {}
    netns = one.stage.namespace(["10.3.0.1"])
    with watched(one.agent, numbers):
        start = time.monotonic()
        one.agent.client.enrol(netns, _shapes.uid("guarded"))
        while not _idle(one.agent):  # a question for so large a state would be part of the answer
            pass
        numbers["wall_s"] = time.monotonic() - start - IDLE
    one.agent.wait(_guarded)
    state = one.agent.client.state()["authorization"]
    numbers |= {name: state["pods"][0][name] for name in ("mode", "reason", "policies")}
    return numbers | {"map_mib": sum(one.agent.maps().values()) / (1 << 20)}


def _idle(agent: Agent) -> bool:
    """Whether it did next to nothing for a while, and did not wait for a CPU either."""
    before, waits = sum(cpu_us(agent.cgroup)), 0
    for _ in range(SAMPLES):
        time.sleep(IDLE / SAMPLES)
        stat = Path(f"/proc/{agent.process.pid}/stat").read_text()
        waits += stat.rpartition(")")[2].split()[0] == "R"
    used = sum(cpu_us(agent.cgroup)) - before
    return used < 0.1 * IDLE * 1e6 and waits < SAMPLES // 3


def _guarded(state: dict[str, Any]) -> bool:
    return bool(state["authorization"]["pods"]) and bool(state["synced"])
