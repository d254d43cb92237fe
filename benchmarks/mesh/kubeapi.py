"""As much of a Kubernetes API as a node agent asks for when it starts: a node, its pods, watches in
which nothing happens.

    python -m benchmarks.mesh.kubeapi CERTIFICATE NODE NAME,ADDRESS...

Says "ready", then its port on 127.0.0.1; ends with its parent.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from benchmarks._shapes import NAMESPACE

Json = dict[str, Any]
MODE = {"istio.io/dataplane-mode": "kmesh"}
REVISION = "1"


def node(name: str) -> Json:
    """The node: its address is the host part of every pod's gateway."""
    return {
        "metadata": {"name": name},
        "spec": {"podCIDR": "10.30.0.0/24", "podCIDRs": ["10.30.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]},
    }


def pod(name: str, address: str, on: str) -> Json:
    """A pod that asks for the mesh. It is not ready: who reads this finds its namespace by a cgroup
    that a pod of Kubernetes has and ours has not; it is enrolled by hand."""
    ready = {"type": "Ready", "status": "False"}
    return {
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": name, "labels": MODE},
        "spec": {"nodeName": on, "containers": [], "serviceAccountName": "default"},
        "status": {"podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]},
    }


def answer(path: str, things: dict[str, list[Json]]) -> Json | None:
    """What a GET of a path gives: a list, one thing by name, or None."""
    parts = [part for part in urlsplit(path).path.split("/") if part]
    for plural, items in things.items():
        if parts and parts[-1] == plural:
            kind = plural.removesuffix("s").capitalize() + "List"
            metadata = {"resourceVersion": REVISION}
            return {"kind": kind, "apiVersion": "v1", "metadata": metadata, "items": items}
        if len(parts) > 1 and parts[-2] == plural:
            named = [one for one in items if one["metadata"]["name"] == parts[-1]]
            return named[0] if named else None
    return None


class Handler(BaseHTTPRequestHandler):
    """GETs of ``things``; a watch stays open and says nothing."""

    things: ClassVar[dict[str, list[Json]]] = {}
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """One request."""
        if parse_qs(urlsplit(self.path).query).get("watch"):
            self._head(200, None)
            time.sleep(3600)
            return
        found = answer(self.path, self.things)
        missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(found or missing).encode()
        self._head(200 if found else 404, len(body))
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""

    def _head(self, status: int, length: int | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()


def main() -> None:
    """Command line."""
    certificate, on, *pods = sys.argv[1:]
    namespace = {"metadata": {"name": NAMESPACE, "labels": MODE}}
    Handler.things = {
        "nodes": [node(on)],
        "namespaces": [namespace],
        "pods": [pod(name, address, on) for name, address in (one.split(",") for one in pods)],
        "services": [], "configmaps": [], "daemonsets": [],
    }  # fmt: skip
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(f"ready\n{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
