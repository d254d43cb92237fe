"""``/debug/maps`` and ``/debug/links``: the kernel's tables and links as it describes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from kmesh.bpf import lib, query
from kmesh.tasks.problems import answer

if TYPE_CHECKING:
    from kmesh.tasks.admin_context import Context

TYPES = {
    1: "hash", 2: "array", 5: "percpu_hash", 6: "percpu_array", 9: "lru_hash",
    10: "lru_percpu_hash", 11: "lpm_trie", 24: "sk_storage", 27: "ringbuf",
}  # fmt: skip
PROGRAMS = {3: "sched_cls", 13: "sock_ops", 18: "cgroup_sock_addr", 30: "sk_lookup"}


def routes(context: Context) -> list[web.RouteDef]:
    """Tables and links."""

    async def maps(_: web.Request) -> web.Response:
        """Every map as the kernel describes it, and its fill where that is counted."""
        counted = context.filler.statistics().maps
        rows = []
        for name, fd in context.plane.maps.items():
            info = lib.map_info(fd)
            fill = counted.get(name)
            rows.append({
                "name": name, **info._asdict(), "type": TYPES.get(info.type, str(info.type)),
                "entries": fill.entries if fill else None, "limit": context.limits.get(name),
                "pin": f"{context.plane.root}/maps/{name}",
            })  # fmt: skip
        return answer(rows)

    async def pinned(_: web.Request) -> web.Response:
        """The pinned links with the programs behind them."""
        return answer(links(f"{context.plane.root}/links"))

    return [web.get("/debug/maps", maps), web.get("/debug/links", pinned)]


def links(folder: str) -> list[dict[str, Any]]:
    """Pinned links by name, each with its program; None for one that is gone."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        link = lib.pinned(str(path))
        if link is None:
            continue
        try:
            program = query.program(lib.link_info(link).program)
        finally:
            os.close(link)
        shape = None if program is None else {
            **program._asdict(), "type": PROGRAMS.get(program.type, str(program.type)),
        }  # fmt: skip
        found.append({"link": path.name, "program": shape})
    return found
