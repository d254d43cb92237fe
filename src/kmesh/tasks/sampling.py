"""``GET /debug/profile``: where time and memory go, for some seconds."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from threading import Event, Thread, main_thread
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from aiohttp import web

from kmesh.errors import KmeshError
from kmesh.tasks.problems import answer

if TYPE_CHECKING:
    from types import FrameType

    from kmesh.tasks.admin_context import Context

EACH = 0.01  # seconds between two looks of the CPU profile
MOST_SECONDS = 30.0
TOP = 40


class ProfileError(KmeshError):
    """A profile cannot be made: another one is being made, or its parameters are wrong."""

    code = "KM1709"
    next_step = "As GET /debug/profile?kind=cpu&seconds=10; kinds are cpu, memory and loop."


class Profiles:
    """The handler; one profile at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._profiling = False

    async def profile(self, request: web.Request) -> web.Response:
        """``?kind=cpu|memory|loop&seconds=``: stacks with counts (a line each, for flame graphs),
        allocations by line, or stalls of the loop."""
        kind, raw = request.query.get("kind", "cpu"), request.query.get("seconds", "10")
        make = {"cpu": self._cpu, "memory": self._memory, "loop": self._loop}.get(kind)
        try:
            seconds = float(raw)
        except ValueError:
            seconds = -1.0
        if make is None or not 0 < seconds <= MOST_SECONDS:
            raise ProfileError(f"kind {kind!r} for {raw!r} seconds (at most {MOST_SECONDS:.0f})")
        if self._profiling:
            raise ProfileError("another profile is being made", "Ask again when it is done.")
        self._profiling = True
        try:
            return await make(seconds)
        finally:
            self._profiling = False

    async def _cpu(self, seconds: float) -> web.Response:
        stop, stacks = Event(), Counter[str]()
        thread = Thread(target=sample, args=(stop, stacks), name="profile", daemon=True)
        thread.start()
        try:
            await anyio.sleep(seconds)
        finally:
            stop.set()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(thread.join)
        lines = (f"{stack} {count}\n" for stack, count in stacks.most_common())
        return web.Response(text="".join(lines))

    async def _memory(self, seconds: float) -> web.Response:
        tracemalloc.start(1)
        try:
            await anyio.sleep(seconds)
            snapshot = await anyio.to_thread.run_sync(tracemalloc.take_snapshot)
        finally:
            tracemalloc.stop()
        rows = await anyio.to_thread.run_sync(snapshot.statistics, "lineno")
        return answer([
            {"where": str(row.traceback), "bytes": row.size, "count": row.count}
            for row in rows[:TOP]
        ])  # fmt: skip

    async def _loop(self, seconds: float) -> web.Response:
        lag = self._context.lag
        before = lag.statistics("profile")
        await anyio.sleep(seconds)
        after = lag.statistics("profile")
        return answer({
            "seconds": seconds, "longest": after.recent, "longest_cpu": after.recent_cpu,
            "over_10ms": after.over_10ms - before.over_10ms,
        })  # fmt: skip


def sample(stop: Event, stacks: Counter[str]) -> None:
    """Look at the stack of the loop's thread until told to stop."""
    loop = main_thread().ident
    while not stop.wait(EACH):
        frame = sys._current_frames().get(loop or 0)
        parts: list[str] = []
        while frame is not None:
            parts.append(where(frame).replace(" ", "_"))
            frame = frame.f_back
        stacks[";".join(reversed(parts))] += 1


def where(frame: FrameType) -> str:
    """``module.function:line``."""
    code = frame.f_code
    return f"{frame.f_globals.get('__name__', '?')}.{code.co_qualname}:{frame.f_lineno}"


def routes(context: Context) -> list[web.RouteDef]:
    """GET /debug/profile."""
    return [web.get("/debug/profile", Profiles(context).profile)]
