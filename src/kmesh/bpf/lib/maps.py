"""Maps: what they are, and their rows one by one and in batches."""

from __future__ import annotations

import os
from errno import EEXIST, ENOENT, ENOSPC, errorcode
from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh._native import ffi, lib
from kmesh.bpf.lib.calls import check, libc
from kmesh.bpf.lib.memory import seal
from kmesh.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


BATCH = 4096
NO_EXIST = 1  # BPF_NOEXIST
PER_CPU = (5, 6, 10)  # BPF_MAP_TYPE_: hash, array, LRU hash
HASHES = (1, 5, 9, 10)  # BPF_MAP_TYPE_: hash, per CPU, LRU, LRU per CPU
ARRAYS = (2, 6)  # BPF_MAP_TYPE_: array, per CPU
TRIE, STORAGE, RING = 11, 24, 27
MAPPABLE = 1 << 10  # BPF_F_MMAPABLE


class MapInfo(NamedTuple):
    """What the kernel says of a map."""

    id: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    btf: int  # id of the BTF that describes it, 0 when there is none
    key_type: int
    value_type: int

    @property
    def mapped(self) -> bool:
        """Whether its contents can be mapped."""
        return self.type in ARRAYS and bool(self.flags & MAPPABLE)

    @property
    def row_size(self) -> int:
        """Bytes of a value as a look-up hands it out: of every CPU, if each has its own."""
        if self.type not in PER_CPU:
            return self.value_size
        return -(-self.value_size // 8) * 8 * possible_cpus()


def possible_cpus() -> int:
    """How many values a per-CPU element has."""
    return check(lib.libbpf_num_possible_cpus(), "count CPUs")


def map_info(fd: int) -> MapInfo:
    """Kernel's description of a map."""
    info = ffi.new("struct km_map_info *")
    check(lib.km_map_info(fd, info), "read map info")
    return MapInfo(
        info.id, info.type, info.key_size, info.value_size, info.max_entries, info.flags,
        info.btf, info.key_type, info.value_type,
    )  # fmt: skip


def has_map(number: int) -> bool:
    """Whether the kernel has a map of this id."""
    fd = lib.bpf_map_get_fd_by_id(number)
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)


def btf(number: int) -> bytes:
    """The BTF of this id."""
    size = check(lib.km_btf(number, ffi.NULL, 0), "read a BTF")
    room = ffi.new("char[]", size)
    check(lib.km_btf(number, room, size), "read a BTF")
    return bytes(ffi.buffer(room))


def update(fd: int, key: bytes, value: bytes) -> None:
    """Put one row."""
    check(libc(lib.bpf_map_update_elem(fd, key, value, 0)), "update a map")


def insert(fd: int, key: bytes, value: bytes) -> None:
    """Put one row where there is none; one that is there stays as it is."""
    rc = libc(lib.bpf_map_update_elem(fd, key, value, NO_EXIST))
    if rc != -EEXIST:
        check(rc, "update a map")


def update_many(
    fd: int, rows: Sequence[tuple[bytes, bytes]], sealed: bool = False
) -> tuple[int, BpfError | None]:
    """Put rows in order with one system call: (rows written, why the next one was not). ``sealed``
    ones get their check words first: the last word of a value (abi.check)."""
    count = ffi.new("uint32_t *", len(rows))
    keys, values = [key for key, _ in rows], [value for _, value in rows]
    room = ffi.from_buffer(seal(keys, values) if sealed else b"".join(values))
    rc = lib.km_update_batch(fd, b"".join(keys), room, count)
    if rc >= 0:
        return len(rows), None
    name = errorcode.get(-rc, str(-rc))
    return int(count[0]), BpfError(f"update a map: {name} ({os.strerror(-rc)})", -rc)


def lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """One value; None when absent. ``value_size`` is in bytes (per-CPU maps: for all CPUs)."""
    value = ffi.new("char[]", value_size)
    rc = libc(lib.bpf_map_lookup_elem(fd, key, value))
    if rc == -ENOENT:
        return None
    check(rc, "look up a map")
    return bytes(ffi.buffer(value))


def delete(fd: int, key: bytes) -> None:
    """Remove a row; absent is fine."""
    rc = libc(lib.bpf_map_delete_elem(fd, key))
    if rc != -ENOENT:
        check(rc, "delete from a map")


def rows(fd: int, zeros: bool = True, batch: int = BATCH) -> Iterator[tuple[bytes, bytes]]:
    """All rows of a hash map, in batches; without ``zeros`` those whose value is not 0. To read a
    batch of 4,096 holds this thread up for 2 ms."""
    info = map_info(fd)
    size, nothing = info.row_size, b"" if zeros else bytes(info.row_size)
    for keys, values, found in _batches(fd, info, batch):
        raw_keys, raw_values = bytes(ffi.buffer(keys)), bytes(ffi.buffer(values))
        if zeros or raw_values[: size * found] != bytes(size * found):
            for i in range(found):
                value = raw_values[i * size : (i + 1) * size]
                if value != nothing:
                    yield raw_keys[i * info.key_size : (i + 1) * info.key_size], value


def walk(fd: int) -> Iterator[tuple[bytes, bytes]]:
    """All rows of any map, one at a time (LPM tries have no batches everywhere)."""
    info = map_info(fd)
    for raw in _keys(fd, info.key_size):
        value = lookup(fd, raw, info.row_size)
        if value is not None:
            yield raw, value


def count(fd: int) -> int | None:
    """Entries of a hash map or trie, None for other types. Takes about half a microsecond each,
    and nothing else may run in this thread meanwhile."""
    info = map_info(fd)
    if info.type == TRIE:
        return sum(1 for _ in _keys(fd, info.key_size))
    if info.type not in HASHES:
        return None
    return sum(found for *_, found in _batches(fd, info, BATCH))


def _batches(fd: int, info: MapInfo, room: int) -> Iterator[tuple[Any, Any, int]]:
    """Memory with keys and with values, the same for each batch, and how many of them there are."""
    token, following = ffi.NULL, ffi.new("char[]", 8)
    keys, values = _memory(info, room)
    while True:
        found = ffi.new("uint32_t *", room)
        rc = lib.km_lookup_batch(fd, token, following, keys, values, found)
        if rc == -ENOSPC and room < 1 << 24:  # one bucket holds more than the batch
            room *= 2
            keys, values = _memory(info, room)
            continue
        if rc != -ENOENT:
            check(rc, "read a map")
        yield keys, values, int(found[0])
        if rc == -ENOENT:
            return
        token, following = following, ffi.new("char[]", 8)


def _memory(info: MapInfo, rows: int) -> tuple[Any, Any]:
    return ffi.new("char[]", info.key_size * rows), ffi.new("char[]", info.row_size * rows)


def _keys(fd: int, size: int) -> Iterator[bytes]:
    key, following = ffi.NULL, ffi.new("char[]", size)
    while libc(lib.bpf_map_get_next_key(fd, key, following)) == 0:
        yield bytes(ffi.buffer(following))
        key, following = following, ffi.new("char[]", size)
