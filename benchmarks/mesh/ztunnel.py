"""Istio's ztunnel without Kubernetes: one for every pod, or one for all pods of the node.

Needs a binary built with ``--features testing``, because certificates come from its built-in test
root. Every instance reads the same local file, written here.
"""

from __future__ import annotations

import io
import json
import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from benchmarks import _nft, _shapes, _stage, dataset
from benchmarks._stage import Failed, Place, listening
from benchmarks.mesh.contend import Contender, Facts, Options
from benchmarks.mesh.proxies import redirect
from benchmarks.mesh.site import SERVICES, Pod, dotted, vip

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from benchmarks._stage import Stage
    from benchmarks.mesh.site import Site

NODE, DOMAIN, ACCOUNT = "n1", "cluster.local", "default"
THREADS = 2
WITHIN = 120.0  # seconds: a local file of 100,000 workloads takes some


def local_file(site: Site, protocol: str) -> str:
    """The pods and services of a site; ``protocol`` is HBONE or TCP."""
    services = [
        {
            "name": name,
            "namespace": _shapes.NAMESPACE,
            "hostname": _shapes.hostname(name),
            "vips": [f"/{one.vip}"],
            "ports": {one.port: one.target},
        }
        for name, one in SERVICES.items()
    ]
    workloads = [_workload(pod, protocol, {}) for pod in site.clients]
    for number, pod in enumerate(site.servers):
        of = {
            f"{_shapes.NAMESPACE}/{_shapes.hostname(name)}": {one.port: one.target}
            for name, one in SERVICES.items()
            if number in one.where
        }
        workloads.append(_workload(pod, protocol, of))
    text = io.StringIO()
    YAML().dump({"workloads": workloads, "services": services, "policies": []}, text)
    return text.getvalue()


def _workload(pod: Pod, protocol: str, services: dict[str, Any]) -> dict[str, Any]:
    return {
        "uid": _shapes.uid(pod.name),
        "name": pod.name,
        "namespace": _shapes.NAMESPACE,
        "serviceAccount": ACCOUNT,
        "trustDomain": DOMAIN,
        "workloadIps": [pod.address],
        "protocol": protocol,
        "node": NODE,
        "services": services,
    }


def large_file(size: int) -> str:
    """The same for a mesh of so many workloads, on one line: a serializer of YAML takes minutes."""
    services, workloads = [], []
    for index in range(size // dataset.ENDPOINTS):
        name, address = f"service-{index}", dotted(dataset.service_address(index))
        host = {"hostname": _shapes.hostname(name), "vips": [f"/{address}"], "ports": {80: 8080}}
        services.append({"name": name, "namespace": _shapes.NAMESPACE, **host})
    for index in range(max(size, 1)):
        pod = Pod(f"pod-{index}", dotted(dataset.pod_address(index)), Place())
        of = f"{_shapes.NAMESPACE}/{_shapes.hostname(f'service-{index // dataset.ENDPOINTS}')}"
        there = index // dataset.ENDPOINTS < len(services)
        workloads.append(_workload(pod, "HBONE", {of: {80: 8080}} if there else {}))
    text = json.dumps({"workloads": workloads, "services": services, "policies": []})
    return re.sub(r'"(\d+)": ', r"\1: ", text)  # ports are numbers, which JSON's keys cannot be


def alone(stage: Stage, options: Options, size: int) -> subprocess.Popen[str]:
    """One for the first pod of a mesh of so many workloads, when it listens."""
    path, place = stage.folder / f"ztunnel-{size}.yaml", Place(stage.namespace())
    path.write_text(large_file(size))
    pod = Pod("pod-0", "", place)
    process = _start(stage, options, dedicated(pod, path), place)
    _await(stage, pod, process)
    return process


def environment(path: Path) -> dict[str, str]:
    """What every instance is told: the local file, no control plane, its own test certificates."""
    return {
        "XDS_ADDRESS": "",
        "LOCAL_XDS_PATH": str(path),
        "FAKE_CA": "true",
        "NODE_NAME": NODE,
        "CLUSTER_ID": "Kubernetes",
        "PACKET_MARK": str(_nft.MARK),
        "IPV6_ENABLED": "false",
        "ZTUNNEL_WORKER_THREADS": str(THREADS),
        "RUST_LOG": "error",
    }


def dedicated(pod: Pod, path: Path) -> dict[str, str]:
    """One for a pod, in the pod's namespace."""
    info = f"{_shapes.NAMESPACE}/{pod.name}/{ACCOUNT}"
    mode = {"PROXY_MODE": "dedicated", "PROXY_WORKLOAD_INFO": info, "ENABLE_ORIG_SRC": "false"}
    return environment(path) | mode


def shared(path: Path, uds: Path) -> dict[str, str]:
    """One for all pods, which it learns over ZDS."""
    return environment(path) | {"PROXY_MODE": "shared", "INPOD_UDS": str(uds)}


def pairs(protocol: str, stage: Stage, site: Site, options: Options) -> Contender:
    """One in every pod."""
    works, path = stage.cgroup(site.name), _write(stage, site, protocol)
    for pod in site.pods:
        process = _start(stage, options, dedicated(pod, path), Place(pod.netns, works))
        _await(stage, pod, process)
    redirect(stage, site.pods, inbound=True)
    return _contender(site, works, options, protocol, "one in every pod")


def node(protocol: str, stage: Stage, site: Site, options: Options) -> Contender:
    """One for all pods; our ZDS server hands their namespaces over."""
    works, path = stage.cgroup(site.name), _write(stage, site, protocol)
    uds = stage.folder / f"{site.name}.sock"
    zds = stage.start(zds_command(uds, site), Place(), wait=True)
    place = Place(stage.namespace(), works)
    process = _start(stage, options, shared(path, uds), place)
    for pod in site.pods:
        _await(stage, pod, process, zds)
    redirect(stage, site.pods, inbound=True, spoofed=True)
    return _contender(site, works, options, protocol, "one for all pods of the node")


def zds_command(uds: Path, site: Site) -> list[str]:
    """The ZDS server for the pods of a site."""
    pods = [f"{number:08d}-0000-4000-8000-000000000000,{pod.name},{pod.netns}"
            for number, pod in enumerate(site.pods)]  # fmt: skip
    return [sys.executable, "-m", "benchmarks.mesh.zds", str(uds), *pods]


def _write(stage: Stage, site: Site, protocol: str) -> Path:
    path = stage.folder / f"{site.name}.yaml"
    path.write_text(local_file(site, protocol))
    return path


def _start(
    stage: Stage, options: Options, variables: Mapping[str, str], place: Place
) -> subprocess.Popen[str]:
    assert options.ztunnel is not None
    settings = [f"{name}={value}" for name, value in variables.items()]
    return stage.start(["env", *settings, str(options.ztunnel)], place)


def _await(
    stage: Stage,
    pod: Pod,
    process: subprocess.Popen[str],
    zds: subprocess.Popen[str] | None = None,
) -> None:
    ports = [_nft.OUTBOUND_PORT, _nft.INBOUND_PORT, _nft.HBONE_PORT]
    try:
        for port in ports:
            listening(pod.pid, port, within=WITHIN)
    except Failed as failed:
        words = [stage.last_words(one) for one in (process, zds) if one]
        raise Failed(f"{pod.name}: {failed}: {' '.join(filter(None, words))}") from failed


def _contender(site: Site, works: Path, options: Options, protocol: str, where: str) -> Contender:
    tunnel = protocol == "HBONE"
    facts = Facts(
        version(options),
        "by locality, else random, per connection",
        "mutual TLS between instances" if tunnel else "none",
        "certificates of its built-in test root" if tunnel else "none",
        f"nftables redirect; {where}, {protocol}",
    )
    return Contender(site, vip, (works,), facts, udp=False)


def version(options: Options) -> str:
    """What the binary says of itself, one line."""
    assert options.ztunnel is not None
    try:
        said = _stage.run([str(options.ztunnel), "version"])
    except Failed:
        return "unknown"
    return said.strip().splitlines()[0][:60] if said.strip() else "unknown"


MAKERS: dict[str, Callable[[Stage, Site, Options], Contender]] = {
    "ztunnel": partial(node, "HBONE"),
    "ztunnel-tcp": partial(node, "TCP"),
    "ztunnel-pair": partial(pairs, "HBONE"),
    "ztunnel-pair-tcp": partial(pairs, "TCP"),
}
