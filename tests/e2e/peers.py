"""Control planes for the agent, on 127.0.0.1 only: one in a thread, one as a process, a bad one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import select
import socket
import subprocess
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from anyio.from_thread import start_blocking_portal

from kmesh.controlplane.file import parse
from kmesh.controlplane.resources import version
from kmesh.controlplane.server import ControlPlane, Listen
from kmesh.core.events import ADDRESS
from tests.e2e.agent import KMESH, environment
from tests.tasks.xds_peers import Peer
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from kmesh.controlplane.session import Nack, SessionStatistics

UVLOOP = {"use_uvloop": True}
Script = Callable[[Peer], Awaitable[None]]


def free_port() -> int:
    """A port that nobody uses, below those that the kernel gives to clients by itself."""
    while True:
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


# --- meshes: plain objects, as they stand in a mesh file


def pod(
    name: str,
    *ips: str,
    of: str = "",
    ports: dict[int, int] | None = None,
    namespace: str = "default",
    **more: Any,
) -> dict[str, Any]:
    """A workload; ``of`` is the key of its service, ``ports`` its own mapping there."""
    services = {of: ports or {}} if of else {}
    found = {"name": name, "namespace": namespace, "workloadIps": [*ips], "services": services}
    return {**found, "node": "n1", **more}


def service(
    key: str, *vips: str, ports: dict[int, int] | None = None, **more: Any
) -> dict[str, Any]:
    """A service with the key ``<namespace>/<hostname>``."""
    namespace, _, hostname = key.partition("/")
    found = {"name": hostname, "namespace": namespace, "hostname": hostname}
    return {**found, "vips": [f"/{vip}" for vip in vips], "ports": ports or {80: 8080}, **more}


def policy(
    name: str,
    *matches: dict[str, Any],
    action: str = "Allow",
    scope: str = "Namespace",
    namespace: str = "default",
    **more: Any,
) -> dict[str, Any]:
    """A policy with a rule for each match."""
    found = {"name": name, "namespace": namespace, "scope": scope, "action": action}
    rules = [[[match]] for match in matches]
    return {**found, "dryRun": False, "rules": rules, **more}


def mesh_file(*objects: dict[str, Any]) -> str:
    """The text of a mesh file: Python's literals are YAML in flow style."""
    workloads = [one for one in objects if "workloadIps" in one]
    services = [one for one in objects if "vips" in one]
    policies = [one for one in objects if "rules" in one]
    return repr({"workloads": workloads, "services": services, "policies": policies})


# --- the good control plane


class Plane:
    """A control plane in a thread of its own."""

    def __init__(self, portal: BlockingPortal, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._portal = portal
        self._plane = ControlPlane(listen=Listen(port=port))

    @contextlib.contextmanager
    def serving(self) -> Iterator[Plane]:
        """Serve inside the block."""
        with self._portal.wrap_async_context_manager(self._plane.serving()):
            yield self

    def apply(self, *objects: dict[str, Any]) -> None:
        """Replace the mesh; clients get the difference."""
        self._portal.call(self._plane.apply, parse(mesh_file(*objects).encode(), "mesh"))

    def put(self, name: str, raw: bytes, type_url: str = ADDRESS) -> None:
        """Put one resource as encoded bytes, good or bad."""
        self._portal.call(self._plane.set_resource, type_url, name, version(raw), raw)

    def statistics(self) -> SessionStatistics:
        """Of the one client."""
        found: list[SessionStatistics] = self._portal.call(self._plane.statistics)
        assert len(found) == 1, found
        return found[0]

    def until_answered(self) -> SessionStatistics:
        """Wait until the client has answered everything that it was sent."""
        until(lambda: self._settled(), lambda: self._portal.call(self._plane.statistics))
        return self.statistics()

    def _settled(self) -> bool:
        one = self.statistics()
        return one.acks + one.nacks >= one.responses and not one.pending

    def nack(self) -> Nack:
        """The client's last NACK; waits for the first."""
        until(lambda: self._last_nack() is not None, lambda: "there was none")
        found = self._last_nack()
        assert found is not None
        return found

    def _last_nack(self) -> Nack | None:
        (session,) = self._portal.call(self._plane.sessions)
        last: Nack | None = session.last_nack
        return last


@contextlib.contextmanager
def plane() -> Iterator[Plane]:
    """A control plane that serves an empty mesh."""
    with (
        start_blocking_portal("asyncio", UVLOOP) as portal,
        Plane(portal, free_port()).serving() as made,
    ):
        yield made


class PlaneProcess:
    """``kmesh controlplane`` with a mesh file; comes and goes at one port."""

    def __init__(self, directory: Path) -> None:
        self.mesh, self.log = directory / "mesh.yaml", directory / "controlplane.log"
        self._listen = f"127.0.0.1:{free_port()}"
        self.address = f"http://{self._listen}"
        self._process: subprocess.Popen[str] | None = None

    def write(self, *objects: dict[str, Any]) -> None:
        """Replace the mesh file in one step, as editors do."""
        fresh = self.mesh.with_suffix(".new")
        fresh.write_text(mesh_file(*objects))
        fresh.rename(self.mesh)

    def start(self) -> None:
        """Start it; returns when it serves."""
        assert self._process is None, "it runs already"
        with self.log.open("a") as log:
            command = [*KMESH, "controlplane", "--mesh", str(self.mesh), "--listen", self._listen]
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment()
            )
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], PATIENCE)[0], self.log.read_text()
        assert self._process.stdout.readline().startswith("ready "), self.log.read_text()

    def kill(self) -> None:
        """SIGKILL; harmless when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextlib.contextmanager
def plane_process(directory: Path) -> Iterator[PlaneProcess]:
    """A control plane that is not started yet."""
    made = PlaneProcess(directory)
    try:
        yield made
    finally:
        made.kill()


# --- the bad control plane


@contextlib.contextmanager
def bad_plane(address: str, *scripts: Script) -> Iterator[None]:
    """Serve one script per connection in turn, the last for ever, at ``http://127.0.0.1:<port>``."""
    port = int(address.rpartition(":")[2])
    left = list(scripts)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer = Peer(reader, writer)
            peer.greet()
            await (left.pop(0) if len(left) > 1 else left[0])(peer)
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass  # the agent left in the middle of the script, as it should
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def serving() -> Any:
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        try:
            yield
        finally:
            server.close()

    with (
        start_blocking_portal("asyncio", UVLOOP) as portal,
        portal.wrap_async_context_manager(serving()),
    ):
        yield
