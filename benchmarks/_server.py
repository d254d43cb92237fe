"""A control plane in a process of its own: a large mesh, and changes to it on command.

Each line of standard input is a JSON object ``{"do": NAME, ...arguments}``; each is answered by one
line. ``Server`` is the other end.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from benchmarks import _shapes, dataset
from benchmarks._stage import Failed, Place, end
from kmesh.controlplane import server
from kmesh.controlplane.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from benchmarks._stage import Stage
    from kmesh.controlplane.envelope import Incoming
    from kmesh.controlplane.server import ControlPlane
    from kmesh.controlplane.state import Entry

BATCH_SECONDS = 0.01
WITHIN = 300.0  # seconds, of the longest command: until a mesh is acknowledged


class Server:
    """A control plane of a stage, with a certificate it speaks TLS; calls raise Failed with its
    last words."""

    def __init__(
        self, stage: Stage, place: Place | None = None, certificate: Path | None = None
    ) -> None:
        command = [sys.executable, "-m", "benchmarks._server"]
        command += [str(certificate)] if certificate else []
        self._stage = stage
        self._process = stage.start(command, place or Place(), wait=True)
        self.address = str(self.call("address"))

    def end(self) -> None:
        """End it before the stage does."""
        with self._stage.held():
            end(self._process)

    def call(self, do: str, **arguments: Any) -> Any:
        """One command; its answer."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        process.stdin.flush()
        answered, _, _ = select.select([process.stdout], [], [], WITHIN)
        line = process.stdout.readline() if answered else ""
        if not line:
            words = self._stage.last_words(process) or f"no answer within {WITHIN:.0f} s"
            raise Failed(f"control plane, {do}: {words}")
        return json.loads(line)


class Timed(Session):
    """Notes how long each response waits for its ACK or NACK, which the agent sends after the last
    map write that the response leads to."""

    answered: ClassVar[list[float]] = []
    news: ClassVar[asyncio.Event] = asyncio.Event()
    down: ClassVar[bool] = False

    def __init__(self, peer: str) -> None:
        super().__init__(peer)
        self._left: dict[str, float] = {}

    def next(self, state: Mapping[str, Mapping[str, Entry]]) -> bytes | None:
        """The next response, from now on waited for. Raises GRPCError while the server is down."""
        if self.down:
            raise GRPCError(Status.UNAVAILABLE, "the control plane is down")
        data = super().next(state)
        if data is not None:
            self._left[str(self._nonces)] = time.monotonic()
        return data

    def receive(self, request: Incoming) -> None:
        """A request, perhaps the awaited one."""
        if request.nonce in self._left:
            self.answered.append(time.monotonic() - self._left.pop(request.nonce))
        super().receive(request)
        self.news.set()


class Commands:
    """What can be asked; each method is one command."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._nacks = 0

    async def address(self) -> str:
        """Where it serves."""
        return self._plane.address

    async def down(self) -> None:
        """End every stream, and every new one until ``up``."""
        Timed.down = True
        self._plane.set_resource("nobody asks for this", "it wakes all sessions", "", b"")

    async def up(self) -> None:
        """Serve again."""
        Timed.down = False

    async def acked(self) -> dict[str, Any]:
        """Wait until somebody is connected and has answered everything; milliseconds that each
        response since the last question waited for it, and how many were refused (NACK)."""
        while not self._quiet():
            Timed.news.clear()
            await Timed.news.wait()
        found = [1000 * each for each in Timed.answered]
        Timed.answered.clear()
        sessions = self._plane.sessions()
        nacks = sum(one.statistics().nacks for one in sessions)
        fresh, self._nacks = max(0, nacks - self._nacks), nacks
        last = [one.last_nack.message for one in sessions if one.last_nack]
        return {"ms": found, "nacks": fresh, "why": last[-1] if fresh and last else ""}

    def _quiet(self) -> bool:
        sessions = self._plane.sessions()
        return bool(sessions) and not any(
            one.due or one.statistics().pending or not one.statistics().responses
            for one in sessions
        )

    async def mesh(self, workloads: int, services: int) -> int:
        """Put the mesh of ``dataset``."""
        return self._put(dataset.mesh(workloads, services))

    async def shape(self, name: str, **sizes: int) -> int:
        """Put what a function of ``_shapes`` makes."""
        return self._put(getattr(_shapes, name)(**sizes))

    async def service(self, name: str, vip: str, ports: _shapes.Ports) -> int:
        """Put one service."""
        return self._put([_shapes.service(name, [_shapes.Vip(socket.inet_aton(vip))], ports)])

    async def pod(self, name: str, address: str, of: dict[str, _shapes.Ports], node: str) -> int:
        """Put one pod."""
        return self._put([_shapes.pod(name, socket.inet_aton(address), of, node)])

    async def flip(self, count: int, workloads: int) -> int:
        """Change the health of ``count`` endpoints spread over the mesh."""
        step = max(1, workloads // max(1, count))
        return self._put(dataset.workload(i * step, unhealthy=True) for i in range(count))

    async def restart(self, service: int, first: int, count: int) -> int:
        """New pods instead of ``count`` workloads of a service, from workload ``first`` on."""
        put = self._put(_shapes.restarted(service, range(count)))
        return put + self._remove(dataset.workload(first + i).name for i in range(count))

    async def remove_namespace(self, namespace: int, workloads: int, services: int) -> int:
        """Remove the services and workloads of a namespace of the large mesh."""
        mine = range(namespace, services, dataset.NAMESPACES)
        pods = (
            index
            for one in mine
            for index in range(
                one * dataset.ENDPOINTS, min(workloads, (one + 1) * dataset.ENDPOINTS)
            )
        )
        removed = self._remove(dataset.workload(index).name for index in pods)
        return removed + self._remove(dataset.service(index).name for index in mine)

    def _remove(self, names: Iterable[str]) -> int:
        count = 0
        for name in names:
            self._plane.remove_resource(dataset.ADDRESS_TYPE, name)
            count += 1
        return count

    async def churn(self, workloads: int, seconds: float, rate: int) -> int:
        """Flip the health of endpoints all over the mesh, ``rate`` a second, in small responses."""
        start, sent = time.monotonic(), 0
        while (spent := time.monotonic() - start) < seconds:
            while sent < spent * rate:
                index, unhealthy = sent * 7919 % workloads, sent // workloads % 2 == 0
                self._put([dataset.workload(index, unhealthy=unhealthy)])
                sent += 1
            await asyncio.sleep(BATCH_SECONDS)
        return sent

    def _put(self, entries: Iterable[dataset.Encoded]) -> int:
        count = 0
        for each in entries:
            self._plane.set_resource(each.type_url, each.name, each.version, each.message)
            count += 1
        return count


def _tls(certificate: str = "") -> ssl.SSLContext | None:
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2"])
    return context


async def serve() -> None:
    """Obey until standard input ends."""
    setattr(server, "Session", Timed)  # noqa: B010
    plane = server.ControlPlane(listen=server.Listen("127.0.0.1", 0), tls=_tls(*sys.argv[1:]))
    commands = Commands(plane)
    say = sys.stdout
    loop = asyncio.get_running_loop()
    async with plane.serving():
        say.write("ready\n")
        say.flush()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            arguments = json.loads(line)
            answer = await getattr(commands, arguments.pop("do"))(**arguments)
            say.write(json.dumps(answer) + "\n")
            say.flush()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve())
