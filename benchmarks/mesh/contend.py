"""What a contender is, and those without a proxy: direct and nftables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import _nft
from benchmarks._stage import Place
from benchmarks._turns import Way
from benchmarks.mesh.site import SERVICES, vip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks._stage import Stage
    from benchmarks.mesh.site import Site


class Options(NamedTuple):
    """What contenders may need to know; paths are None when they were not given."""

    services: int
    endpoints: int
    ztunnel: Path | None = None
    kmesh: Path | None = None


class Facts(NamedTuple):
    """What a contender is and does, for the report; ``besides`` is what it does now and then, not
    while it was measured."""

    version: str
    balances: str
    encryption: str
    identity: str
    redirection: str
    besides: str = ""


class Contender(NamedTuple):
    """A site that is set up. ``target`` is what a client dials for a service, by its name, maybe
    several with commas; ``works`` use ``idle`` CPUs while nothing happens; ``check`` raises Failed
    when traffic did not go the way it should."""

    site: Site
    target: Callable[[str], str]
    works: tuple[Path, ...]
    facts: Facts
    udp: bool = True
    check: Callable[[], None] = lambda: None
    idle: float = 0.0

    def way(self, service: str) -> Way:
        """From its clients to a service."""
        places = tuple(one.place for one in self.site.clients)
        target = self.target(service)
        servers = self.site.server_group
        return Way(self.site.name, places, target, servers, self.works, self.idle)


def missing(path: Path | None) -> str:
    """Why somebody's binary cannot be used; empty when it can."""
    if path is None:
        return "give the path of the binary"
    if not path.is_file():
        return f"{path}: no such file"
    return "" if os.access(path, os.X_OK) else f"{path}: not executable"


def direct(stage: Stage, site: Site, options: Options) -> Contender:
    """Clients dial the endpoints in turn."""
    facts = Facts("-", "the client, in turn", "none", "none", "none")
    return Contender(site, lambda service: ",".join(site.endpoints(service)), (), facts)


def nftables(stage: Stage, site: Site, options: Options) -> Contender:
    """DNAT in every pod's namespace, as many other services as kmesh has."""
    services = {(one.vip, one.port): site.endpoints(name) for name, one in SERVICES.items()}
    base = 0x0A_10_00_00
    others = [(_text(base + index), 80) for index in range(options.services)]
    rules = _nft.dnat(services, others)
    for pod in site.pods:
        stage.run(["nft", "-f", "-"], Place(pod.netns), rules)
    facts = Facts(
        stage.run(["nft", "--version"], Place()).split()[1],
        "random, per connection",
        "none",
        "none",
        "DNAT in the pod's namespace; conntrack on every packet",
    )
    return Contender(site, vip, (), facts)


def _text(address: int) -> str:
    return ".".join(map(str, address.to_bytes(4)))
