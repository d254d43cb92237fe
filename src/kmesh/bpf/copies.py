"""Rows from one map into another, as they are or converted on the way."""

from __future__ import annotations

import mmap
from itertools import islice
from typing import TYPE_CHECKING

from kmesh.bpf import lib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from kmesh.abi.migrate import Rows

    Row = tuple[bytes, bytes]


UNBATCHED = (*lib.ARRAYS, lib.TRIE)  # at least on some kernels


def blocks(fd: int) -> Iterator[list[Row]]:
    """All rows of a map, some thousands at a time; of one that can be mapped a single row without
    a key."""
    info = lib.map_info(fd)
    if info.mapped:
        yield [(b"", memory(fd).tobytes())]
        return
    rows = lib.walk(fd) if info.type in UNBATCHED else lib.rows(fd)
    while block := list(islice(rows, lib.BATCH)):
        yield block


def copy(old: int, new: int, rows: Rows | None = None) -> None:
    """All rows of a map into its successor. Raises BpfError, Unlike."""
    info = lib.map_info(old)
    if info.mapped:
        content = memory(old).tobytes()
        content = rows.value(content) if rows else content
        memory(new)[: len(content)] = content
        return
    write = _one_by_one if info.type in UNBATCHED else _many
    for block in blocks(old):
        write(new, list(rows(block)) if rows else block)


def any_rows(maps: Mapping[str, int], names: Iterable[str]) -> bool:
    """Whether one of these tables has a row; arrays, which always have, do not count."""
    fds = [maps[name] for name in names if name in maps]
    tables = [fd for fd in fds if lib.map_info(fd).type not in lib.ARRAYS]
    return any(next(lib.walk(fd), None) is not None for fd in tables)


def memory(fd: int) -> memoryview:
    """The contents of an array that can be mapped."""
    info = lib.map_info(fd)
    size = info.max_entries * info.value_size
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    return memoryview(mmap.mmap(fd, pages))[:size]


def _many(fd: int, rows: Sequence[Row]) -> None:
    _, error = lib.update_many(fd, rows)
    if error is not None:
        raise error


def _one_by_one(fd: int, rows: Sequence[Row]) -> None:
    for key, value in rows:
        lib.update(fd, key, value)
