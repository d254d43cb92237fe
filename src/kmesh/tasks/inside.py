"""What runs inside the agent: version, loggers, queues and tasks."""

from __future__ import annotations

import asyncio
import logging
import platform
from typing import TYPE_CHECKING, Any

from aiohttp import web

from kmesh import __version__
from kmesh.core import openapi, switches
from kmesh.errors import KmeshError
from kmesh.tasks.listener import told
from kmesh.tasks.problems import answer, content
from kmesh.tasks.sampling import where

if TYPE_CHECKING:
    from kmesh.tasks.admin_context import Context

ROOT, BPF, PACKAGE = "default", "bpf", "kmesh"
LEVELS = {
    "error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG,
}  # fmt: skip
WORDS = {level: name for name, level in LEVELS.items()}
NUMBERS = tuple("0123")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class LoggerError(KmeshError):
    """There is no such logger or level."""

    code = "KM1715"
    next_step = "GET /debug/loggers lists the loggers; levels are error, warn, info and debug."


class Inside:
    """The handlers."""

    def __init__(self, context: Context) -> None:
        self._context = context

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
            "access_log": context.accesslog.statistics()._asdict(),
        })  # fmt: skip

    async def tasks(self, _: web.Request) -> web.Response:
        """Every task of the loop and the line where it waits."""
        rows = []
        for task in asyncio.all_tasks():
            coroutine = task.get_coro()
            rows.append({
                "name": task.get_name(), "where": waits_at(coroutine),
                "running": getattr(coroutine, "__qualname__", ""),
            })  # fmt: skip
        rows.sort(key=lambda row: (row["running"], row["name"]))
        return answer({"tasks": rows, "restarts": dict(self._context.supervisor.restarts)})


def waits_at(coroutine: object) -> str:
    """The innermost line of this package at which a coroutine waits, else the innermost of all."""
    found = ""
    ours = False
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            mine = frame.f_globals.get("__name__", "").startswith(f"{PACKAGE}.")
            if mine or not ours:
                found, ours = where(frame), ours or mine
        inner = getattr(coroutine, "cr_await", None)
        coroutine = inner or getattr(coroutine, "gi_yieldfrom", None)
    return found


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
    """Version, loggers, queues and tasks."""
    made = Inside(context)
    return [
        told("/version", version),
        web.get("/openapi.json", describe),
        told("/debug/ready", ready),
        web.get("/debug/loggers", made.loggers),
        web.post("/debug/loggers", made.set_logger),
        web.get("/debug/queues", made.queues),
        web.get("/debug/tasks", made.tasks),
    ]
