"""Ways from a client to three endpoints: each in a client namespace of its own, all alike."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import _envoy, _mesh, _nft
from benchmarks._stage import Place, Stage, listening
from benchmarks._turns import Way
from kmesh.bpf import lib, load
from kmesh.bpf.sizes import Sizes
from kmesh.bpf.tables import KernelTables
from kmesh.core import addr
from kmesh.core.model import Port
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SERVERS = ("10.1.0.1", "10.1.0.2", "10.1.0.3")
PORT = 8080
VIP, VIP_PORT = "10.99.0.1", 80
WEB = "bench/web.bench.svc.cluster.local"
CLIENT_CPU, SERVER_CPU = 0, 1
SERVERS_GROUP = "servers"


class Kmesh(NamedTuple):
    """The data plane, loaded; ``cookie`` is that of the enrolled client."""

    plane: load.DataPlane
    tables: KernelTables
    cgroup: Path
    client: str
    services: int


def endpoints() -> str:
    """The endpoints as the load client takes them."""
    return ",".join(f"{one}:{PORT}" for one in SERVERS)


def servers(stage: Stage, group: str = SERVERS_GROUP) -> list[str]:
    """Echo servers, each in a namespace of its own; the namespaces."""
    found, cgroup = [], stage.cgroup(group)
    for one in SERVERS:
        netns = stage.namespace([one])
        place = Place(netns, cgroup, SERVER_CPU)
        stage.start([stage.server, "echo", str(PORT)], place, wait=True)
        found.append(netns)
    return found


def client_namespace(stage: Stage, served: Iterable[str], address: str) -> str:
    """A client's namespace: routes to the servers and back, and no other."""
    netns = stage.namespace([address])
    stage.route(netns, SERVERS)
    for other in served:
        stage.route(other, [address])
    return netns


def _way(stage: Stage, name: str, client: Place, targets: str, *works: Path) -> Way:
    return Way(name, (client,), targets, stage.cgroups / SERVERS_GROUP, works)


def direct(stage: Stage, served: list[str], name: str, address: str) -> Way:
    """The client dials the endpoints in turn."""
    cgroup = stage.cgroup(name.replace(" ", "-"))
    netns = client_namespace(stage, served, address)
    return _way(stage, name, Place(netns, cgroup, CLIENT_CPU), endpoints())


def kmesh(stage: Stage, served: list[str], address: str, services: int, size: int) -> Kmesh:
    """Programs on a cgroup of their own, tables with ``services`` services of ``size`` endpoints
    and the one that is measured, and an enrolled client."""
    cgroup = stage.cgroup("kmesh")
    bpffs = stage.mount("bpf", "-t", "bpf", "bpf")
    cgroup2 = stage.mount("cgroup2", "--bind", str(cgroup))
    sizes = Sizes(vips=1 << 15, slots=1 << 18)
    plane = load.start(bpffs, cgroup2, sizes)
    tables = KernelTables(plane)
    netns = client_namespace(stage, served, address)
    steer = Steering(Store("", "Kubernetes", "n0"), Segments(sizes.slots), sizes.vips)
    steer.put(_mesh.large(services, size))
    ports = (Port(VIP_PORT, PORT),)
    steer.put([_mesh.service(WEB, addr.parse(VIP), ports)])
    for index, one in enumerate(SERVERS):
        steer.put([_mesh.workload(f"web-{index}", addr.parse(one), [WEB], ports)])
    uid, client = _mesh.workload("client", addr.parse(address), [])
    steer.put([(uid, client)])
    steer.enrol(cookie(netns), uid)
    steer.start()
    _mesh.settle(steer, tables)
    return Kmesh(plane, tables, cgroup, netns, services)


def kmesh_way(stage: Stage, made: Kmesh) -> Way:
    """The enrolled client dials the VIP, to which it has no route."""
    place = Place(made.client, made.cgroup, CLIENT_CPU)
    return _way(stage, "kmesh", place, f"{VIP}:{VIP_PORT}")


def cookie(netns: str) -> int:
    """The cookie of a namespace."""
    fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lib.netns_cookie, fd).result()
    finally:
        os.close(fd)


def nftables(stage: Stage, served: list[str], address: str, services: int) -> Way:
    """DNAT in the client's namespace: one look-up among ``services`` services."""
    cgroup = stage.cgroup("nftables")
    netns = client_namespace(stage, served, address)
    stage.route(netns, [VIP])
    vips = [addr.text(addr.from_wire((_mesh.VIP_BASE + i).to_bytes(4, "big")))
            for i in range(services)]  # fmt: skip
    choices = [f"{one}:{PORT}" for one in SERVERS]
    rules = _nft.dnat({(VIP, VIP_PORT): choices}, [(one, VIP_PORT) for one in vips])
    stage.run(["nft", "-f", "-"], Place(netns), rules)
    return _way(stage, "nftables", Place(netns, cgroup, CLIENT_CPU), f"{VIP}:{VIP_PORT}")


def envoy(stage: Stage, served: list[str], address: str, binary: Path) -> Way:
    """A TCP proxy with the same endpoints in the client's namespace, two threads as a sidecar."""
    cgroup, proxy = stage.cgroup("envoy"), stage.cgroup("envoy-proxy")
    netns = client_namespace(stage, served, address)
    config = stage.folder / "envoy.json"
    cluster = _envoy.static("web", [f"{one}:{PORT}" for one in SERVERS], marked=False)
    listener = _envoy.plain("127.0.0.1", _nft.OUTBOUND_PORT, "web")
    config.write_text(json.dumps(_envoy.bootstrap([listener], [cluster])))
    process = stage.start(_envoy.command(binary, config), Place(netns, proxy))
    listening(process.pid, _nft.OUTBOUND_PORT, netns)
    place = Place(netns, cgroup, CLIENT_CPU)
    return _way(stage, "envoy", place, f"127.0.0.1:{_nft.OUTBOUND_PORT}", proxy)
