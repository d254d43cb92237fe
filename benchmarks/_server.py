"""A control plane in a process of its own: a large mesh, and changes to it on command.

Each line of standard input is a JSON object ``{"do": NAME, ...arguments}``; each is answered by one
line. ``Server`` is the other end.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from benchmarks import _shapes, dataset
from benchmarks._stage import Failed, Place

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable

    from benchmarks._stage import Stage
    from kmesh.controlplane.server import ControlPlane

BATCH_SECONDS = 0.01


class Server:
    """A control plane of a stage; calls raise Failed with its last words."""

    def __init__(self, stage: Stage) -> None:
        command = [sys.executable, "-m", "benchmarks._server"]
        self._stage = stage
        self._process: subprocess.Popen[str] = stage.start(command, Place(), wait=True)
        self.address = str(self.call("address"))

    def call(self, do: str, **arguments: Any) -> Any:
        """One command; its answer."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise Failed(f"control plane, {do}: {self._stage.last_words(process)}")
        return json.loads(line)


class Commands:
    """What can be asked; each method is one command."""

    def __init__(self, plane: ControlPlane, address: str) -> None:
        self._plane, self._address = plane, address
        self._serving = AsyncExitStack()

    async def address(self) -> str:
        """Where it serves."""
        return self._address

    async def up(self) -> None:
        """Serve, at the same address as before."""
        await self._serving.enter_async_context(self._plane.serving())

    async def down(self) -> None:
        """Close every connection, and serve nobody until ``up``."""
        await self._serving.aclose()

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

    async def remove(self, names: list[str]) -> int:
        """Remove addresses by name."""
        for name in names:
            self._plane.remove_resource(dataset.ADDRESS_TYPE, name)
        return len(names)

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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def serve() -> None:
    """Obey until standard input ends."""
    from kmesh.controlplane.server import ControlPlane, Listen

    port = _free_port()  # the same after ``down`` and ``up``
    commands = Commands(ControlPlane(listen=Listen("127.0.0.1", port)), f"127.0.0.1:{port}")
    await commands.up()
    say = sys.stdout
    say.write("ready\n")
    say.flush()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        arguments = json.loads(line)
        answer = await getattr(commands, arguments.pop("do"))(**arguments)
        say.write(json.dumps(answer) + "\n")
        say.flush()
    await commands.down()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve())
