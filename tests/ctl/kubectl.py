"""A stand-in for kubectl and the cluster behind it: no cluster can run where these tests run.

It knows the calls that kmeshctl makes, keeps the cluster in a JSON file named by KMESH_TEST_CLUSTER
and refuses everything else. ``port-forward`` really forwards, to the address that the file gives
for a pod. What a real API server checks (schemas, permissions, conflicts) it does not check.

    {"agents": {"kmesh-a": "127.0.0.1:4711"}, "phases": {"kmesh-b": "Pending"},
     "gateways": [...], "namespaces": [...], "context": "shop", "calls": [[...], ...]}
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

CLUSTER = Path(os.environ.get("KMESH_TEST_CLUSTER", "/nowhere"))
GATEWAYS = "gateways.gateway.networking.k8s.io"


class Refused(Exception):
    """What kubectl would write to standard error."""


def option(words: list[str], *names: str) -> str:
    """The value of a flag, "" without it."""
    found = [words[i + 1] for i, word in enumerate(words[:-1]) if word in names]
    return found[-1] if found else ""


def get(cluster: dict[str, Any], words: list[str]) -> Any:
    """``kubectl get``."""
    kind, *rest = words
    namespace = option(words, "-n") or cluster.get("context", "default")
    if kind == "pods":
        phases = dict.fromkeys(cluster.get("agents", {}), "Running")
        return {
            "items": [
                {"metadata": {"name": name}, "status": {"phase": phase}}
                for name, phase in {**phases, **cluster.get("phases", {})}.items()
            ]
            if (namespace, option(words, "-l")) == ("kmesh-system", "app=kmesh")
            else []
        }
    if kind == "namespace":
        return named(cluster.get("namespaces", []), rest[0], "namespaces")
    if kind == GATEWAYS:
        every = cluster.get("gateways", [])
        here = [each for each in every if each["metadata"]["namespace"] == namespace]
        if rest[0].startswith("-"):
            return {"items": every if "-A" in words else here}
        return named(here, rest[0], GATEWAYS)
    raise Refused(f'error: the server doesn\'t have a resource type "{kind}"')


def named(rows: list[dict[str, Any]], name: str, kind: str) -> dict[str, Any]:
    """The object of this name."""
    for row in rows:
        if row["metadata"]["name"] == name:
            return row
    raise Refused(f'Error from server (NotFound): {kind} "{name}" not found')


def apply(cluster: dict[str, Any], words: list[str]) -> str:
    """``kubectl apply --server-side -f -`` of a Gateway; it is programmed at once."""
    made = json.load(sys.stdin)
    namespace = option(words, "-n") or cluster.get("context", "default")
    made["metadata"].setdefault("namespace", namespace)
    name = made["metadata"]["name"]
    status = cluster.get("programmed", "True")
    made["status"] = {"conditions": [{"type": "Programmed", "status": status, "message": "said"}]}
    cluster["gateways"] = [
        each
        for each in cluster.get("gateways", [])
        if (each["metadata"]["name"], each["metadata"]["namespace"]) != (name, namespace)
    ] + [made]
    return f"gateway/{name} serverside-applied"


def delete(cluster: dict[str, Any], words: list[str]) -> str:
    """``kubectl delete`` of a Gateway."""
    namespace = option(words, "-n") or cluster.get("context", "default")
    row = named(cluster["gateways"], words[1], GATEWAYS)
    if row["metadata"]["namespace"] != namespace:
        raise Refused("Error from server (NotFound)")
    cluster["gateways"].remove(row)
    return "deleted"


def label(cluster: dict[str, Any], words: list[str]) -> str:
    """``kubectl label namespace``."""
    name, value = words[2].split("=")
    row = named(cluster["namespaces"], words[1], "namespaces")
    row["metadata"].setdefault("labels", {})[name] = value
    return "labelled"


async def forward(target: str) -> None:
    """``kubectl port-forward``: until it is ended."""
    host, _, port = target.rpartition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    local = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"Forwarding from 127.0.0.1:{local} -> 15200\n")
    sys.stdout.flush()
    await server.serve_forever()


def main(words: list[str]) -> int:
    """One call."""
    cluster: dict[str, Any] = json.loads(CLUSTER.read_text())
    verb = words[0]
    answer: Any
    if verb == "port-forward":
        pod = words[3].removeprefix("pod/")
        if pod not in cluster["agents"]:
            raise Refused(f'error: unable to forward port: pod "{pod}" is not running')
        asyncio.run(forward(cluster["agents"][pod]))
        return 0
    cluster.setdefault("calls", []).append(words)
    if verb == "get":
        answer = json.dumps(get(cluster, words[1:]))
    elif verb in ("apply", "delete", "label"):
        answer = {"apply": apply, "delete": delete, "label": label}[verb](cluster, words[1:])
    elif verb == "config":
        answer = cluster.get("context", "")
    else:
        raise Refused(f"error: unknown command {verb!r}")
    CLUSTER.write_text(json.dumps(cluster))
    sys.stdout.write(answer)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refused as error:
        sys.stderr.write(f'E1123 08:00:00.000000 1 memcache.go:265] "noise"\n{error}\n')
        sys.exit(1)
