"""Authorization over a whole agent: open connections that end, changes that come on the stream."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from anyio.from_thread import start_blocking_portal

from benchmarks import _agent
from benchmarks._contenders import CLIENT_CPU, PORT
from benchmarks._stage import Place, Stage
from kmesh.controlplane.file import parse
from kmesh.controlplane.server import ControlPlane, Listen
from kmesh.core import addr
from kmesh.core.model import Action, Authorization, Match, PolicyScope

if TYPE_CHECKING:
    import subprocess

SERVER, CLIENT, STRANGER = "10.2.0.1", "10.2.0.2", "10.2.0.3"
POD = "Kubernetes//Pod/bench/server"


def hold(stage: Stage, place: Place, source: str, count: int) -> subprocess.Popen[str]:
    """A process that holds open connections from one address."""
    command = [sys.executable, "-m", "benchmarks._hold", source, SERVER, str(PORT), str(count)]
    return stage.start(command, place, wait=True)


def evicted(door: Any, count: int) -> dict[str, Any]:
    """End all connections of one address beside half as many of another, which stay: the server
    has all of them, and often no more than 20,000 open files."""
    door.policies()
    place = Place(door.client, door.client_group, CLIENT_CPU)
    pods = ((CLIENT, count // 2), (STRANGER, count))
    holders = [hold(door.stage, place, *each) for each in pods]
    only = Match(source_ips=(addr.network(addr.parse(CLIENT), 32),))
    start = time.perf_counter()
    door.policies(
        Authorization(
            "bench/p", "bench", PolicyScope.NAMESPACE, Action.ALLOW, (((only,),),)
        )
    )  # fmt: skip
    changed = time.perf_counter()
    with ThreadPoolExecutor(1) as thread:
        (cookie,) = door.plane.guards.places()
        thread.submit(door.plane.iterate, "km_evict", cookie).result()
    end = time.perf_counter()
    left, ended = (json.loads(each.communicate("\n")[0]) for each in holders)
    return {
        "open": count + count // 2,
        "forbidden": count,
        "ended": ended["reset"],
        "ended_wrongly": left["reset"],
        "change_ms": 1000 * (changed - start),
        "end_ms": 1000 * (end - changed),
    }


def streamed(stage: Stage, changes: int) -> dict[str, Any]:
    """Changes of one policy, one at a time: from the response on the stream to the last map write,
    as the agent measures it."""
    netns = stage.namespace([SERVER])
    with start_blocking_portal(backend_options={"use_uvloop": True}) as portal:
        plane = ControlPlane(listen=Listen.parse("127.0.0.1:0"))
        with portal.wrap_async_context_manager(plane.serving()) as address:
            portal.call(plane.apply, parse(mesh(0), "mesh"))
            with _agent.running(stage, address) as agent:
                agent.wait(lambda state: bool(state["synced"]))
                agent.client.enrol(netns, POD)
                agent.wait(lambda state: len(state["authorization"]["pods"]) == 1)
                for index in range(1, changes + 1):
                    portal.call(plane.apply, parse(mesh(index), "mesh"))
                    wait_answered(portal.call, plane, agent)
                found = agent.client.state()
    visible = found["writer"]["visible_ms"]
    return {"changes": changes, "policies": found["authorization"]["policies"], **visible}


def mesh(index: int) -> bytes:
    """A pod and its policy, none like the one before."""
    ports = [20_000 + index % 1000]
    pod = {"name": "server", "namespace": "bench", "workloadIps": [SERVER], "services": {}}
    match = {"sourceIps": [f"{CLIENT}/32"], "destinationPorts": ports}
    policy = {
        "name": "p", "namespace": "bench", "scope": "Namespace", "action": "Allow",
        "dryRun": False, "rules": [[[match]]],
    }  # fmt: skip
    text = {"workloads": [{**pod, "network": "network-1"}], "services": [], "policies": [policy]}
    return repr(text).encode()


def wait_answered(call: Any, plane: ControlPlane, agent: _agent.Agent) -> None:
    """Until the agent has answered everything."""
    deadline = time.monotonic() + _agent.DEADLINE
    while True:
        (one,) = call(plane.statistics)
        if one.acks + one.nacks >= one.responses and not one.pending:
            return
        if agent.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the agent did not answer")
