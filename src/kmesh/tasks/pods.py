"""Enrolment and state over HTTP on a Unix socket: for the CNI plugin, the lab and the tools."""

from __future__ import annotations

import os
import socket
from asyncio import get_running_loop
from errno import EAGAIN, EINVAL
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from aiohttp import web

from kmesh.bpf import lib
from kmesh.core.pods import UID_ROOM
from kmesh.errors import BpfError, KmeshError
from kmesh.tasks.listener import Limits, serving
from kmesh.tasks.problems import answer, content

if TYPE_CHECKING:
    from asyncio import Server
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from kmesh.core.events import Json
    from kmesh.core.pods import Pod
    from kmesh.tasks.gate import Gate
    from kmesh.tasks.writer import Writer

LIMITS = Limits(connections=128, head=10.0, body=64 << 10, anywhere=True)
"""Only root reaches the socket: what is bounded is what a broken tool can hold up."""


class EnrolmentError(KmeshError):
    """A pod cannot be enrolled or withdrawn."""

    code = "KM1301"
    next_step = 'Send {"netns": "/run/netns/NAME", "workload": "<uid>"}.'


class SocketError(KmeshError):
    """The socket cannot be made."""

    code = "KM1302"
    next_step = "Name a directory with --run-dir that root can write to."


class PodServer:
    """``<run-dir>/kmesh.sock``: POST, DELETE and GET /enrol, GET /state, and the ``routes`` of the
    other parts."""

    def __init__(
        self,
        path: Path,
        writer: Writer,
        state: Callable[[], dict[str, Json]],
        routes: Iterable[web.RouteDef] = (),
    ) -> None:
        self.path, self._writer, self._state = path, writer, state
        self._routes = tuple(routes)
        self.gate: Gate | None = None
        self._cookies: dict[str, int] = {}
        self._namespace_thread = anyio.CapacityLimiter(1)

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; the socket is only for its owner. Raises SocketError."""
        own = [
            web.post("/enrol", self._enrol),
            web.delete("/enrol", self._withdraw),
            web.get("/enrol", self._list),
        ]
        async with serving([*own, *self.shared(), *self._routes], LIMITS) as gate:
            self.gate = gate
            server = await self._listen(gate)
            try:
                task_status.started()
                await anyio.sleep_forever()
            finally:
                server.close()

    def shared(self) -> list[web.RouteDef]:
        """What the admin address may serve as well: questions, nothing that changes anything."""
        return [web.get("/state", self._show)]

    async def _listen(self, gate: Gate) -> Server:
        try:
            if listens(self.path):
                raise SocketError(f"another agent listens at {self.path}")
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.unlink(missing_ok=True)
            server = await get_running_loop().create_unix_server(gate, str(self.path))
            self.path.chmod(0o600)
            return server
        except OSError as error:
            reason = error.strerror or str(error)
            raise SocketError(f"cannot listen at {self.path}: {reason}") from error

    async def _enrol(self, request: web.Request) -> web.Response:
        body = await fields(request, "netns", "workload")
        uid, netns = body["workload"], body["netns"]
        if len(uid.encode()) >= UID_ROOM:
            raise EnrolmentError(f"workload uid is longer than {UID_ROOM - 1} bytes")
        cookie = await self._cookie(netns)
        self._cookies[netns] = cookie
        self._writer.enrol(cookie, uid, netns)
        return answer({"cookie": cookie, "workload": uid})

    async def _withdraw(self, request: web.Request) -> web.Response:
        cookie = (await content(request, EnrolmentError.next_step)).get("cookie")
        if cookie is None:
            cookie = await self._known((await fields(request, "netns"))["netns"])
        elif not isinstance(cookie, int) or isinstance(cookie, bool) or not 0 < cookie < 1 << 64:
            raise EnrolmentError("'cookie' must be a number, as GET /enrol shows it")
        self._writer.withdraw(cookie)
        return answer({"cookie": cookie})

    async def _known(self, netns: str) -> int:
        """The cookie of a namespace, also when its path is gone; not after a restart, when only
        the cookie itself leads to it."""
        cookie = self._cookies.pop(netns, None)
        if cookie is None or await anyio.Path(netns).exists():
            cookie = await self._cookie(netns)
        return cookie

    async def _list(self, _: web.Request) -> web.Response:
        return answer([self._row(pod) for pod in self._writer.steering.pods.list()])

    def _row(self, pod: Pod) -> dict[str, Json]:
        """One enrolment; ``why`` says what keeps it from being as wanted."""
        row: dict[str, Json] = {
            "cookie": pod.cookie,
            "workload": pod.uid,
            "enrolled": pod.enrol is not None,
            "view": pod.enrol.view if pod.enrol else None,
        }
        failure = self._writer.steering.failing.get(pod.cookie)
        return row if failure is None else {**row, "why": failure.why}

    async def _show(self, _: web.Request) -> web.Response:
        return answer(self._state())

    async def _cookie(self, netns: str) -> int:
        def read() -> int:
            # A pipe must not hold up everybody's enrolment.
            fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                return lib.netns_cookie(fd)
            finally:
                os.close(fd)

        try:
            return await anyio.to_thread.run_sync(read, limiter=self._namespace_thread)
        except OSError as error:
            raise EnrolmentError(
                f"cannot open the network namespace {netns}: {error.strerror}",
                "Check the path: it must be a namespace file such as /run/netns/NAME.",
            ) from error
        except BpfError as error:
            if error.errno != EINVAL:
                raise
            raise EnrolmentError(f"{netns} is not a network namespace") from error


def listens(path: Path) -> bool:
    """Whether somebody listens at a Unix socket; one that was left behind does not."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) in (0, EAGAIN)


async def fields(request: web.Request, *names: str) -> dict[str, str]:
    """The body's string fields of these names; raises EnrolmentError naming what is wrong."""
    body = await content(request, EnrolmentError.next_step)
    found: dict[str, str] = {}
    for name in names:
        value = body.get(name)
        if not isinstance(value, str) or not value or "\0" in value:
            raise EnrolmentError(f"{name!r} must be a non-empty string without NUL")
        found[name] = value
    return found
