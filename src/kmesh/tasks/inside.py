"""What runs inside the agent: version, loggers, queues, tasks, and profiles of it."""

from __future__ import annotations

import asyncio
import logging
import platform
import sys
import tracemalloc
from collections import Counter
from threading import Event, Thread, main_thread
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from aiohttp import web

from kmesh import __version__
from kmesh.core import openapi, switches
from kmesh.errors import KmeshError
from kmesh.tasks.problems import answer, content

if TYPE_CHECKING:
    from types import FrameType

    from kmesh.tasks.admin_context import Context

ROOT, BPF, PACKAGE = "default", "bpf", "kmesh"
LEVELS = {
    "error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG,
}  # fmt: skip
WORDS = {level: name for name, level in LEVELS.items()}
NUMBERS = tuple("0123")
EACH = 0.01  # seconds between two looks of the CPU profile
MOST_SECONDS = 30.0
TOP = 40
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class ProfileError(KmeshError):
    """A profile cannot be made: another one is being made, or its parameters are wrong."""

    code = "KM1709"
    next_step = "As GET /debug/profile?kind=cpu&seconds=10; kinds are cpu, memory and loop."


class LoggerError(KmeshError):
    """There is no such logger or level."""

    code = "KM1715"
    next_step = "GET /debug/loggers lists the loggers; levels are error, warn, info and debug."


class Inside:
    """The handlers."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._profiling = False

    async def loggers(self, request: web.Request) -> web.Response:
        """Names, or with ``?name=`` the level of one."""
        name = request.query.get("name")
        if name is None:
            return answer(names())
        if name == BPF:
            return answer({"name": name, "level": self._bpf_level()})
        level = found(name).getEffectiveLevel()
        return answer({"name": name, "level": WORDS.get(level, logging.getLevelName(level))})

    async def set_logger(self, request: web.Request) -> web.Response:
        """``{"name": ..., "level": ...}``: in force until the agent ends."""
        body = await content(request)
        name, level = str(body.get("name", "")), str(body.get("level", "")).lower()
        if name == BPF:
            number = int(level) if level in NUMBERS else list(LEVELS).index(known(level))
            await self._context.switches.change(log_level=switches.LEVELS[number])
            return web.Response(text=f"set BPF Log Level: {number}\n")
        found(name).setLevel(LEVELS[known(level)])
        return web.Response(text="OK")

    def _bpf_level(self) -> str:
        level: str = self._context.switches.settings.log_level
        return list(LEVELS)[switches.LEVELS.index(level)]

    async def queues(self, _: web.Request) -> web.Response:
        """Everything that waits, and how much was ever dropped."""
        context = self._context
        written = context.writer.statistics()._asdict()
        written.pop("delays")
        return answer({
            "mailbox": context.writer.mailbox.statistics()._asdict(), "writer": written,
            "ring": context.denials.statistics()._asdict(),
            "events": context.events.statistics()._asdict(),
        })  # fmt: skip

    async def tasks(self, _: web.Request) -> web.Response:
        """Every task of the loop and the line where it waits."""
        rows = []
        for task in asyncio.all_tasks():
            frames = task.get_stack(limit=1)
            rows.append({
                "name": task.get_name(), "where": where(frames[-1]) if frames else "",
                "running": getattr(task.get_coro(), "__qualname__", ""),
            })  # fmt: skip
        rows.sort(key=lambda row: (row["running"], row["name"]))
        return answer({"tasks": rows, "restarts": dict(self._context.supervisor.restarts)})

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


def names() -> list[str]:
    """The loggers that can be set: the default one, the programs' and one for each module."""
    ours = (
        name
        for name, each in logging.root.manager.loggerDict.items()
        if isinstance(each, logging.Logger) and name.split(".")[0] == PACKAGE
    )
    return [BPF, ROOT, *sorted(ours)]


def found(name: str) -> logging.Logger:
    """A logger by its name; raises LoggerError."""
    if name == ROOT:
        return logging.getLogger()
    if name not in names():
        raise LoggerError(f"there is no logger {name!r}")
    return logging.getLogger(name)


def known(level: str) -> str:
    """A level's name; raises LoggerError."""
    if level not in LEVELS:
        raise LoggerError(f"Invalid log level {level!r}")
    return level


def build() -> dict[str, Any]:
    """Upstream's keys for what this agent is made of."""
    uname = platform.uname()
    return {
        "gitVersion": f"v{__version__}", "gitCommit": "unknown", "gitTreeState": "unknown",
        "buildDate": "unknown", "goVersion": "", "compiler": platform.python_implementation(),
        "platform": f"{uname.system.lower()}/{MACHINES.get(uname.machine, uname.machine)}",
        "python": platform.python_version(),
    }  # fmt: skip


async def version(_: web.Request) -> web.Response:
    """GET /version."""
    return answer(build())


async def ready(_: web.Request) -> web.Response:
    """GET /debug/ready: upstream's, which says no more than that somebody answers; what readiness
    means is at /healthz/ready."""
    return web.Response(text="OK")


async def describe(_: web.Request) -> web.Response:
    """GET /openapi.json."""
    return answer(openapi.describe(__version__))


def routes(context: Context) -> list[web.RouteDef]:
    """Version, loggers, queues, tasks and profiles."""
    made = Inside(context)
    return [
        web.get("/version", version),
        web.get("/openapi.json", describe),
        web.get("/debug/ready", ready),
        web.get("/debug/loggers", made.loggers),
        web.post("/debug/loggers", made.set_logger),
        web.get("/debug/queues", made.queues),
        web.get("/debug/tasks", made.tasks),
        web.get("/debug/profile", made.profile),
    ]
