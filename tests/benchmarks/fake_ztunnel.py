"""A fake: not ztunnel, which cannot be had where these tests run. It refuses what the contract does
not allow (environment, local file, ZDS) and then passes TCP on as ztunnel would, without TLS: what
goes over HBONE is here a line with the destination. No number measured with it means anything.
"""

from __future__ import annotations

import ctypes
import os
import random
import select
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML

SO_ORIGINAL_DST, SO_MARK, CLONE_NEWNET = 80, 36, 0x40000000
MARK = 1337
KNOWN = {
    "XDS_ADDRESS", "LOCAL_XDS_PATH", "FAKE_CA", "NODE_NAME", "CLUSTER_ID", "PACKET_MARK",
    "IPV6_ENABLED", "ZTUNNEL_WORKER_THREADS", "PROXY_MODE", "PROXY_WORKLOAD_INFO",
    "ENABLE_ORIG_SRC", "INPOD_UDS",
}  # fmt: skip
WORKLOAD = {"uid", "name", "namespace", "serviceAccount", "trustDomain", "workloadIps", "protocol",
            "node", "services"}  # fmt: skip
SERVICE = {"name", "namespace", "hostname", "vips", "ports"}


def fail(why: str) -> NoReturn:
    """End as a refusal."""
    sys.stderr.write(f"fake ztunnel: {why}\n")
    sys.stderr.flush()
    os._exit(1)


def expect(condition: object, why: str) -> None:
    if not condition:
        fail(why)


class Mesh:
    """The local file; unknown and missing keys are errors, as ztunnel's are."""

    def __init__(self, path: str) -> None:
        found = YAML(typ="safe").load(Path(path))
        expect(set(found) == {"workloads", "services", "policies"}, f"keys {set(found)}")
        self.workloads: dict[str, Any] = {}
        for one in found["workloads"]:
            expect(set(one) == WORKLOAD, f"workload keys {set(one) ^ WORKLOAD}")
            expect(one["protocol"] in ("HBONE", "TCP"), f"protocol {one['protocol']}")
            for ip in one["workloadIps"]:
                self.workloads[ip] = one
        self.services: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for one in found["services"]:
            expect(set(one) == SERVICE, f"service keys {set(one) ^ SERVICE}")
            key = f"{one['namespace']}/{one['hostname']}"
            for vip in one["vips"]:
                expect(vip.startswith("/"), f"VIP {vip} of no network")
                for port in one["ports"]:
                    expect(isinstance(port, int), f"port {port!r} is no number")
                    self.services[vip[1:], port] = [
                        (ip, pod["services"][key][port])
                        for ip, pod in self.workloads.items()
                        if key in pod["services"]
                    ]

    def resolve(self, host: str, port: int) -> tuple[str, int]:
        """An endpoint of a service, or the address itself."""
        return random.choice(self.services.get((host, port), [(host, port)]))


def dial(host: str, port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.connect((host, port))
    return made


def original(client: socket.socket) -> tuple[str, int]:
    raw = client.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    return socket.inet_ntoa(raw[4:8]), struct.unpack("!H", raw[2:4])[0]


def line(client: socket.socket) -> tuple[str, int]:
    raw = b""
    while not raw.endswith(b"\n"):
        raw += client.recv(1)
    host, _, port = raw.decode().strip().rpartition(":")
    return host, int(port)


def upstream(mesh: Mesh, port: int, client: socket.socket) -> socket.socket:
    """Whom a client of one of the three listeners is connected to."""
    if port == 15008:
        return dial(*line(client))
    if port == 15006:
        return dial(*original(client))
    host, to = mesh.resolve(*original(client))
    workload = mesh.workloads.get(host)
    if workload is None or workload["protocol"] == "TCP":
        return dial(host, to)
    tunnel = dial(host, 15008)
    tunnel.sendall(f"{host}:{to}\n".encode())
    return tunnel


def serve(mesh: Mesh, port: int, client: socket.socket) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        with client, upstream(mesh, port, client) as other:
            peers = {client: other, other: client}
            while True:
                for one in select.select(list(peers), [], [])[0]:
                    data = one.recv(1 << 16)
                    if not data:
                        return
                    peers[one].sendall(data)
    except OSError:
        return


def listen(mesh: Mesh, ready: threading.Event, netns: int = -1) -> None:
    """The three listeners in a namespace, for ever; every thread from here on is in it too."""
    if netns >= 0:
        libc = ctypes.CDLL(None, use_errno=True)
        expect(libc.setns(netns, CLONE_NEWNET) == 0, "setns")
    listeners = [socket.create_server(("0.0.0.0", port)) for port in (15001, 15006, 15008)]
    ready.set()
    while True:
        for one in select.select(listeners, [], [])[0]:
            client, _ = one.accept()
            port = one.getsockname()[1]
            threading.Thread(target=serve, args=(mesh, port, client), daemon=True).start()


def zds(mesh: Mesh, path: str) -> None:
    """Take the pods of a ZDS server."""
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    agent.connect(path)
    agent.send(b"\x08\x01")
    seen: set[bytes] = set()
    while True:
        packet, descriptors, _, _ = socket.recv_fds(agent, 1024, 4)
        if packet == b"\x1a\x00":
            expect(not descriptors, "a descriptor with the end of the snapshot")
            agent.send(b"\x0a\x00")
            break
        expect(packet[:1] == b"\x0a" and len(descriptors) == 1, f"no announcement: {packet!r}")
        expect(packet not in seen, "announced twice")
        seen.add(packet)
        ready = threading.Event()
        threading.Thread(target=listen, args=(mesh, ready, descriptors[0]), daemon=True).start()
        expect(ready.wait(10), "listeners")
        agent.send(b"\x0a\x00")
    expect(len(seen) == len(mesh.workloads), f"{len(seen)} pods of {len(mesh.workloads)}")
    agent.recv(1)


def main() -> None:
    if sys.argv[1:] == ["version"]:
        sys.stdout.write("fake\n")
        return
    given = os.environ
    for name in ("LOCAL_XDS_PATH", "FAKE_CA", "PROXY_MODE", "NODE_NAME"):
        expect(given.get(name), f"{name} is not set")
    expect(given.get("XDS_ADDRESS") == "", "XDS_ADDRESS is not empty")
    expect(given["FAKE_CA"] == "true", "FAKE_CA")
    expect(given["PACKET_MARK"] == str(MARK), "PACKET_MARK")
    odd = {name for name in given if name.startswith(("PROXY_", "INPOD_", "XDS_"))} - KNOWN
    expect(not odd, f"unknown {odd}")
    mesh = Mesh(given["LOCAL_XDS_PATH"])
    if given["PROXY_MODE"] == "shared":
        expect("PROXY_WORKLOAD_INFO" not in given, "PROXY_WORKLOAD_INFO in shared mode")
        zds(mesh, given["INPOD_UDS"])
        return
    expect(given["PROXY_MODE"] == "dedicated", "PROXY_MODE")
    namespace, name, account = given["PROXY_WORKLOAD_INFO"].split("/")
    mine = [one for one in mesh.workloads.values() if one["name"] == name]
    expect(len(mine) == 1, f"no workload {name}")
    expect((mine[0]["namespace"], mine[0]["serviceAccount"]) == (namespace, account), "identity")
    expect(given["ENABLE_ORIG_SRC"] == "false", "ENABLE_ORIG_SRC")
    listen(mesh, threading.Event())


if __name__ == "__main__":
    main()
