"""A fake: not the agent in Go, which cannot be had where these tests run. It asks for what the
contract says that agent needs (flags, environment, files, Kubernetes, delta xDS over TLS), refuses
what is not so, serves the admin port, and steers nothing.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NoReturn

import grpc  # type: ignore[import-untyped]

SECRETS = Path("/var/run/secrets")
ADDRESS = b"type.googleapis.com/istio.workload.Address"
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


def fail(why: str) -> NoReturn:
    sys.stderr.write(f"fake upstream: {why}\n")
    raise SystemExit(1)


def field(tag: int, value: bytes) -> bytes:
    assert len(value) < 128
    return bytes((tag << 3 | 2, len(value))) + value


def nonce(response: bytes) -> bytes:
    """Field 5 of a DeltaDiscoveryResponse."""
    at = 0
    while at < len(response):
        tag, at = response[at], at + 1
        size = shift = 0
        while True:
            byte, at = response[at], at + 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if tag == 5 << 3 | 2:
            return response[at : at + size]
        at += size
    fail("a response without a nonce")


def kubernetes(path: str) -> dict[str, Any]:
    account = SECRETS / "kubernetes.io" / "serviceaccount"
    where = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    token = (account / "token").read_text()
    request = urllib.request.Request(
        f"https://{where}{path}", headers={"Authorization": f"Bearer {token}"}
    )
    trust = ssl.create_default_context(cafile=str(account / "ca.crt"))
    with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def subscribe() -> None:
    """One wildcard for Address, its first answer acknowledged; the stream stays open."""
    root = (SECRETS / "istio" / "root-cert.pem").read_bytes()
    token = (SECRETS / "tokens" / "istio-token").read_text()
    channel = grpc.secure_channel(
        os.environ["XDS_ADDRESS"],
        grpc.ssl_channel_credentials(root),
        options=[("grpc.max_receive_message_length", -1)],
    )
    stream = channel.stream_stream(METHOD)
    node = field(1, field(1, b"ztunnel~127.0.0.1~kmesh-bench.kmesh-system~x"))
    answers: list[bytes] = []

    def requests() -> Any:
        yield node + field(2, ADDRESS)
        while not answers:
            time.sleep(0.01)
        yield node + field(2, ADDRESS) + field(6, nonce(answers[0]))
        time.sleep(3600)

    metadata = [("clusterid", "Kubernetes"), ("authorization", f"Bearer {token}")]
    for answer in stream(requests(), metadata=metadata):
        answers.append(answer)
        if len(answers) == 1:
            serve()


def serve() -> NoReturn:
    """The admin port, for ever."""
    HTTPServer(("127.0.0.1", 15200), BaseHTTPRequestHandler).serve_forever()
    raise SystemExit(1)


def main() -> None:
    flags = dict(one.removeprefix("--").split("=", 1) for one in sys.argv[1:])
    wanted = {"mode", "bpf-fs-path", "cgroup2-path", "cni-etc-path", "monitoring"}
    if set(flags) != wanted:
        fail(f"flags {flags}")
    for name in ("bpf-fs-path", "cgroup2-path", "cni-etc-path"):
        if not Path(flags[name]).is_dir():
            fail(f"--{name}: no folder {flags[name]}")
    if not list(Path(flags["cni-etc-path"]).glob("*.conflist")):
        fail("no conflist")
    if not (Path(flags["cgroup2-path"]) / "cgroup.procs").exists():
        fail("no cgroup2")
    on = os.environ["NODE_NAME"]
    node = kubernetes(f"/api/v1/nodes/{on}")
    if node["status"]["addresses"][0]["type"] != "InternalIP" or not node["spec"]["podCIDR"]:
        fail(f"node {node}")
    pods = kubernetes(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{on}")["items"]
    if len(pods) != 4 or not all(pod["status"]["podIP"] for pod in pods):
        fail(f"pods {pods}")
    if kubernetes("/api/v1/namespaces")["kind"] != "NamespaceList":
        fail("namespaces")
    subscribe()


if __name__ == "__main__":
    main()
