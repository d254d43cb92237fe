"""Pods of one contender: client and server namespaces of its own, alike for all contenders."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from benchmarks._contenders import CLIENT_CPU, SERVER_CPU
from benchmarks._stage import Place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks._stage import Stage

ECHO_PORT, BULK_PORT = 8080, 5201
SERVERS = 2
VIPS = "10.99.0.0/24"


class Service(NamedTuple):
    """A service of every site; ``where`` are the numbers of the servers behind it."""

    vip: str
    port: int
    target: int
    where: tuple[int, ...]


SERVICES: Mapping[str, Service] = {
    "web": Service("10.99.0.1", 80, ECHO_PORT, (0, 1)),
    "http": Service("10.99.0.2", 80, ECHO_PORT, (0,)),
    "bulk": Service("10.99.0.3", BULK_PORT, BULK_PORT, (0,)),
    # A request to "hop1" passes through three pods: hop1, hop2, web.
    "hop1": Service("10.99.0.4", 80, 8081, (0,)),
    "hop2": Service("10.99.0.5", 80, 8082, (1,)),
}


class Pod(NamedTuple):
    """One namespace with one address; ``place`` is where its application runs."""

    name: str
    address: str
    place: Place

    @property
    def netns(self) -> str:
        """The path of the namespace."""
        return self.place.netns

    @property
    def pid(self) -> int:
        """A process in it."""
        return int(self.netns.split("/")[2])


class Site(NamedTuple):
    """All pods of one contender; their applications' cgroups lie below ``group``."""

    name: str
    group: Path
    clients: tuple[Pod, ...]
    servers: tuple[Pod, ...]

    @property
    def pods(self) -> tuple[Pod, ...]:
        """All of them."""
        return self.clients + self.servers

    @property
    def server_group(self) -> Path:
        """The cgroup of the servers."""
        return self.group / "servers"

    @property
    def client_group(self) -> Path:
        """The cgroup of the clients."""
        return self.group / "clients"

    def endpoints(self, service: str) -> list[str]:
        """``address:port`` of the servers behind a service."""
        one = SERVICES[service]
        return [f"{self.servers[number].address}:{one.target}" for number in one.where]


def dotted(address: bytes) -> str:
    """An IPv4 address as text."""
    return ".".join(map(str, address))


def vip(service: str) -> str:
    """``address:port`` of a service."""
    one = SERVICES[service]
    return f"{one.vip}:{one.port}"


def build(stage: Stage, name: str, index: int, clients: int, *, vips: bool) -> Site:
    """Namespaces, routes between them and running echo servers; with ``vips`` the pods have a
    route for service addresses, which whoever redirects packets needs. Raises Failed."""
    group = stage.cgroup(f"{name}-pods")
    net = ipaddress.ip_network(f"10.{30 + index}.0.0/24")
    routes = [str(net), VIPS] if vips else [str(net)]

    def pod(kind: str, number: int, cpu: int) -> Pod:
        address = str(net[number + (1 if kind == "client" else 101)])
        netns = stage.namespace([address])
        stage.route(netns, routes)
        return Pod(f"{name}-{kind}-{number}", address, Place(netns, group / f"{kind}s", cpu))

    for kind in ("clients", "servers"):
        stage.cgroup(f"{group.name}/{kind}")
    made = tuple(pod("client", number, CLIENT_CPU) for number in range(clients))
    served = tuple(pod("server", number, SERVER_CPU) for number in range(SERVERS))
    for one in served:
        stage.start([stage.server, "echo", str(ECHO_PORT)], one.place, wait=True)
    return Site(name, group, made, served)
