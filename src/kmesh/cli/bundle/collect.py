"""What goes into a bundle. Each part is collected by itself: one that fails is noted, not fatal."""

from __future__ import annotations

import mmap
import os
import platform
import sys
from functools import partial
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh import __version__
from kmesh.abi.layout import FINGERPRINT
from kmesh.bpf import lib, mounts
from kmesh.cli.doctor.look import examine
from kmesh.core import redact
from kmesh.errors import KmeshError
from kmesh.tasks.kernel_objects import links

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmesh.cli.client import Client

LOG_END = 4 << 20  # bytes of a log, from its end
MOST_ROWS = 1 << 20  # of one table
BATCHED, ARRAYS, TRIE = (1, 5, 9, 10), (2, 6), 11  # BPF_MAP_TYPE_
MAPPABLE = 1 << 10  # BPF_F_MMAPABLE
BLOCK = 4096
LOGS = ("/var/run/kmesh/daemon.log",)
ANSWERS = {
    "state.json": "/state",
    "enrol.json": "/enrol",
    "version.json": "/version",
    "config_dump.json": "/debug/config_dump/dual-engine",
    "config_dump_bpf.json": "/debug/config_dump/bpf/dual-engine",
    "resources.json": "/debug/resources",
    "planned.json": "/debug/planned",
    "settings.json": "/config_dump?limit=0",
    "maps.json": "/debug/maps",
    "links.json": "/debug/links",
    "queues.json": "/debug/queues",
    "tasks.json": "/debug/tasks",
    "top.json": "/top",
}
PACKAGES = ("aiohttp", "anyio", "betterproto2", "cffi", "grpclib", "orjson", "uvloop")


class Part(NamedTuple):
    """One file of the bundle, or why it is missing. ``layer`` says where it was read."""

    name: str
    layer: str
    content: bytes = b""
    redacted: int = 0
    missing: str = ""
    facts: dict[str, Any] | None = None


def collect(agent: Client, bpffs: str, logs: list[Path], no_maps: bool) -> Iterator[Part]:
    """Every part, one at a time; none raises."""
    for name, path in ANSWERS.items():
        yield attempt(f"agent/{name}", f"agent {path}", partial(agent.get, path))
    yield attempt("versions.json", "files", versions)
    yield attempt("doctor.json", "kernel", lambda: doctor(bpffs))
    yield attempt("process.json", "kernel", lambda: process(bpffs))
    yield attempt("kernel/links.json", "kernel", partial(links, f"{bpffs}/kmesh/links"))
    if not no_maps:
        for pin in sorted(Path(f"{bpffs}/kmesh/maps").glob("*")):
            yield table(pin)
    for log in [*logs, *(Path(each) for each in LOGS if Path(each).exists())]:
        yield log_end(log)


def attempt(name: str, layer: str, ask: Callable[[], Any]) -> Part:
    """A JSON part without secrets."""
    try:
        cleaned = redact.document(ask())
    except KmeshError as error:
        return Part(name, layer, missing=f"{error.code} {error.sentence}")
    except OSError as error:
        return Part(name, layer, missing=str(error))
    return Part(name, layer, dump(cleaned.value), cleaned.secrets)


def dump(value: Any) -> bytes:
    """Indented JSON."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)


def versions() -> dict[str, Any]:
    """This program, Python, the libraries, the kernel, the distribution."""
    release = Path("/etc/os-release")
    return {
        "kmesh": __version__,
        "layout": FINGERPRINT.hex(),
        "python": sys.version,
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "kernel": " ".join(platform.uname()[2:5]),
        "node": platform.node(),
        "os": release.read_text().splitlines() if release.exists() else [],
    }


def doctor(bpffs: str) -> list[dict[str, str]]:
    """What ``kmesh doctor`` finds."""
    return [verdict._asdict() for verdict in examine(bpffs, "")]


def process(bpffs: str) -> dict[str, Any]:
    """The process that holds the pins: its command line, limits and status; of its environment
    the names only."""
    holder = mounts.holder(f"{bpffs}/kmesh").split()
    if holder[0] != "pid":
        return {"running": False}
    folder = Path("/proc") / holder[1]
    command = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    names = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
    return {
        "running": True,
        "pid": int(holder[1]),
        "command": redact.words(command).value,
        "environment": sorted(each.partition("=")[0] for each in names if each),
        "open_files": len(os.listdir(folder / "fd")),
        "limits": (folder / "limits").read_text().splitlines(),
        "status": (folder / "status").read_text().splitlines(),
    }


def table(path: Path) -> Part:
    """A pinned map as it lies in the kernel: rows of key and value, one after the other; arrays
    without the zeros at their end. What is needed to read them is in ``facts``."""
    name = f"kernel/maps/{path.name}.bin"
    try:
        fd = lib.pinned(str(path))
        if fd is None:
            return Part(name, "kernel", missing="it is gone")
        try:
            info = lib.map_info(fd)
            if info.type not in (*BATCHED, *ARRAYS, TRIE):
                why = "only the kernel and the agent can read it (a ring, or sockets' storage)"
                return Part(name, "kernel", missing=why)
            rows = list(islice(rows_of(fd, info), MOST_ROWS))
        finally:
            os.close(fd)
    except (KmeshError, OSError) as error:
        return Part(name, "kernel", missing=str(error))
    facts = {**info._asdict(), "row_size": info.row_size, "rows": len(rows)}
    facts["cut"] = len(rows) >= MOST_ROWS
    content = b"".join(key + value for key, value in rows)
    return Part(name, "kernel", content, facts=facts)


def rows_of(fd: int, info: lib.MapInfo) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a map; of arrays those that are not zero."""
    if info.type in BATCHED:
        yield from lib.rows(fd)
    elif info.type == TRIE:
        yield from lib.walk(fd)
    elif info.flags & MAPPABLE:
        yield from mapped(fd, info)
    else:
        yield from ((key, value) for key, value in lib.walk(fd) if any(value))


def mapped(fd: int, info: lib.MapInfo) -> Iterator[tuple[bytes, bytes]]:
    """Rows that are not zero of an array that can be mapped; empty stretches cost little."""
    each, zero = info.value_size, bytes(BLOCK)
    size = info.max_entries * each
    with mmap.mmap(fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, prot=mmap.PROT_READ) as memory:
        for start in range(0, size, BLOCK // each * each):
            block = memory[start : min(start + BLOCK // each * each, size)]
            if block == zero[: len(block)]:
                continue
            for at in range(0, len(block), each):
                if any(value := block[at : at + each]):
                    yield ((start + at) // each).to_bytes(4, sys.byteorder), value


def log_end(path: Path) -> Part:
    """The end of a log without secrets."""
    name = f"logs/{path.name}"
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_END))
            raw = file.read(LOG_END)
    except OSError as error:
        return Part(name, "files", missing=f"{path}: {error.strerror}")
    cleaned = redact.text(raw.decode(errors="replace"))
    return Part(name, "files", cleaned.value.encode(), cleaned.secrets)
