"""The small mesh of the soak: who reaches whom, and how the mesh changes without changing that."""

from __future__ import annotations

import random
import socket
import sys
from typing import TYPE_CHECKING, Any

from benchmarks._stage import Failed, Place

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from benchmarks._stage import Stage

SERVERS = ("10.1.0.1", "10.1.0.2", "10.1.0.3")
FRIEND, STRANGER = "10.1.0.11", "10.1.0.12"
OPEN, GUARDED = 8080, 8081
WEB, VAULT = "10.99.0.1:80", "10.99.0.2:80"
BACKGROUND = 200  # services that come and go


def pairs() -> dict[str, list[str]]:
    """By client, what it dials and what it must meet there, as soak.c takes it."""
    open_ends = ",".join(f"{one}:{OPEN}" for one in SERVERS)
    guarded_ends = ",".join(f"{one}:{GUARDED}" for one in SERVERS)
    direct = f"{SERVERS[0]}:{GUARDED}"
    web, vault = f"yes/{WEB}/{open_ends}", f"yes/{VAULT}/{guarded_ends}"
    return {
        FRIEND: [
            f"tcp/{web}", f"tcp/{vault}", f"udp/{web}", f"udp/{vault}", f"tcp/{vault}",
            f"tcp/yes/{direct}/{direct}", *[f"keep/{web}", f"keep/{vault}"] * 4,
        ],
        STRANGER: [
            f"tcp/{web}", f"tcp/no/{VAULT}", f"udp/{web}", f"tcp/no/{direct}", f"tcp/{web}",
            f"udp/no/{direct}", *[f"keep/{web}"] * 4,
        ],
    }  # fmt: skip


def uid(address: str) -> str:
    """Uid of the pod at an address."""
    namespace = "street" if address == STRANGER else "shop"
    return f"Kubernetes//Pod/{namespace}/{name(address)}"


def name(address: str) -> str:
    """Name of the pod at an address."""
    return f"pod-{address.replace('.', '-')}"


def mesh(dice: random.Random) -> str:
    """The text of a mesh file in which everybody reaches whom they reach in all others."""
    web, vault = "shop/web.shop", "shop/vault.shop"
    most = 3 if dice.random() < 0.5 else 2
    account = dice.choice(("buyer", "seller"))
    workloads = [
        _pod(one, "shop", {web: {}, vault: {}} if i < most else {}) for i, one in enumerate(SERVERS)
    ]
    workloads += [_pod(FRIEND, "shop", {}, serviceAccount=account), _pod(STRANGER, "street", {})]
    services = [_service("web", "10.99.0.1", OPEN), _service("vault", "10.99.0.2", GUARDED)]
    for i in dice.sample(range(BACKGROUND), BACKGROUND // 2):
        services.append(_service(f"other-{i}", f"10.98.0.{i}", OPEN))
        workloads.append(
            _pod(f"10.2.0.{i}", "shop", {f"shop/other-{i}.shop": {}}, node=f"n{i % 7}")
        )
    policies = [
        _policy("open", {"destinationPorts": [OPEN]}),
        _policy("guarded", {"namespaces": [{"Exact": "shop"}], "destinationPorts": [GUARDED]}),
    ]
    if dice.random() < 0.5:
        ports = dice.sample(range(9000, 9999), 3)
        policies.append(_policy("unused", {"destinationPorts": ports}, action="Deny"))
    return repr({"workloads": workloads, "services": services, "policies": policies})


def _pod(address: str, namespace: str, of: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = {"name": name(address), "namespace": namespace, "workloadIps": [address]}
    return {**found, "services": of, "node": "n1", **more}


def _service(short: str, vip: str, port: int) -> dict[str, Any]:
    found = {"name": short, "namespace": "shop", "hostname": f"{short}.shop"}
    return {**found, "vips": [f"/{vip}"], "ports": {80: port}}


def _policy(short: str, match: dict[str, Any], action: str = "Allow") -> dict[str, Any]:
    found = {"name": short, "namespace": "shop", "scope": "Namespace", "action": action}
    return {**found, "dryRun": False, "rules": [[[match]]]}


def free_port() -> int:
    """A TCP port of loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class ControlPlane:
    """``kmesh controlplane`` with a mesh file that changes; comes and goes at one port."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.meshes = self.starts = 0
        self._stage, self._dice = stage, random.Random(seed)
        self._file: Path = stage.folder / "mesh.yaml"
        self._process: subprocess.Popen[str] | None = None
        self.change()
        self.start()

    def change(self) -> None:
        """Another mesh, in one step."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(mesh(self._dice))
        fresh.rename(self._file)
        self.meshes += 1

    def start(self) -> None:
        """Start it; returns when it serves. Raises Failed."""
        command = [sys.executable, "-m", "kmesh", "controlplane", "--mesh", str(self._file)]
        process = self._stage.start([*command, "--listen", self.address], Place())
        assert process.stdout is not None
        if not process.stdout.readline().startswith("ready"):
            raise Failed(f"control plane: {self._stage.last_words(process)}")
        self._process = process
        self.starts += 1

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
