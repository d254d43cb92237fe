"""The C extension's BPF half, typed: no cffi object leaves this module, errno becomes BpfError."""

from __future__ import annotations

import os
from errno import EACCES, EEXIST, ENOENT, ENOPROTOOPT, ENOSPC, EPERM, errorcode
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kmesh._native import ffi, lib
from kmesh.abi.layout import SLOT_SIZE
from kmesh.bpf import mounts
from kmesh.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_INTERFACES = 1024
BATCH = 4096
NO_EXIST = 1  # BPF_NOEXIST
SET_RETVAL = 187
GET_NETNS_COOKIE = 122
PER_CPU = (5, 6, 10)  # BPF_MAP_TYPE_: hash, array, LRU hash
HASHES = (1, 5, 9, 10)  # BPF_MAP_TYPE_: hash, per CPU, LRU, LRU per CPU
ARRAYS = (2, 6)  # BPF_MAP_TYPE_: array, per CPU
TRIE, STORAGE, RING = 11, 24, 27
MAPPABLE = 1 << 10  # BPF_F_MMAPABLE
MOST_MAPS = 64
RUN_TIME = 0  # BPF_STATS_RUN_TIME
COOKIE_OBJECT = str(Path(__file__).parent.parent / "bpf_c" / "cookie.bpf.o")


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


class LinkInfo(NamedTuple):
    """A link: the id of the program behind it, and what it is attached to (a cgroup's id, the
    inode of a network namespace, the index of an interface; 0: to nothing any more)."""

    program: int
    target: int


def check(rc: int, what: str) -> int:
    """``rc`` if it is not negative; else raises BpfError for the errno it carries."""
    if rc >= 0:
        return rc
    code = -rc
    step = None if code in (EPERM, EACCES) else "Nothing was changed by the failed call."
    name = errorcode.get(code, str(code))
    raise BpfError(f"{what}: {name} ({os.strerror(code)})", code, step)


def _libc(rc: int) -> int:
    """libbpf 1.x returns -errno itself; older calls leave it in errno."""
    return rc if rc >= 0 or rc < -1 else -(ffi.errno or 1)


def pin(fd: int, path: str) -> None:
    """Pin a map, program or link."""
    check(_libc(lib.bpf_obj_pin(fd, path.encode())), f"pin {path}")


def pinned(path: str) -> int | None:
    """A new fd of what is pinned there; None when nothing is."""
    rc = _libc(lib.bpf_obj_get(path.encode()))
    return None if rc == -ENOENT else check(rc, f"open {path}")


def map_info(fd: int) -> MapInfo:
    """Kernel's description of a map."""
    info = ffi.new("struct km_map_info *")
    check(lib.km_map_info(fd, info), "read map info")
    return MapInfo(
        info.id, info.type, info.key_size, info.value_size, info.max_entries, info.flags,
        info.btf, info.key_type, info.value_type,
    )  # fmt: skip


def btf(number: int) -> bytes:
    """The BTF of this id."""
    size = check(lib.km_btf(number, ffi.NULL, 0), "read a BTF")
    room = ffi.new("char[]", size)
    check(lib.km_btf(number, room, size), "read a BTF")
    return bytes(ffi.buffer(room))


def update(fd: int, key: bytes, value: bytes) -> None:
    """Put one row."""
    check(_libc(lib.bpf_map_update_elem(fd, key, value, 0)), "update a map")


def insert(fd: int, key: bytes, value: bytes) -> None:
    """Put one row where there is none; one that is there stays as it is."""
    rc = _libc(lib.bpf_map_update_elem(fd, key, value, NO_EXIST))
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


def seal(keys: Sequence[bytes], values: Sequence[bytes]) -> bytearray:
    """Values of one table in a row, their last words filled in (abi.check)."""
    sealed = bytearray().join(values)
    if keys:
        room = ffi.from_buffer(sealed)
        lib.km_seal(b"".join(keys), len(keys[0]), room, len(values[0]), len(keys))
    return sealed


def mark(sieve: memoryview, keys: Sequence[bytes]) -> None:
    """Set the bits of km_sieve for these keys of km_vip."""
    if keys:
        room, size = ffi.from_buffer("uint64_t[]", sieve), len(keys[0])
        lib.km_mark(room, len(sieve) // 8, b"".join(keys), size, len(keys))


def put_slots(array: memoryview, base: int, slots: bytes, gen: int) -> None:
    """Slots of km_slot from entry ``base`` on, with this gen in each. Raises IndexError beyond the
    end of the array."""
    size = len(slots)
    if base * SLOT_SIZE + size > len(array):
        raise IndexError(f"slots {base} and following of {len(array) // SLOT_SIZE}")
    lib.km_put_slots(ffi.from_buffer(array), base, slots, size // SLOT_SIZE, gen)


def lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """One value; None when absent. ``value_size`` is in bytes (per-CPU maps: for all CPUs)."""
    value = ffi.new("char[]", value_size)
    rc = _libc(lib.bpf_map_lookup_elem(fd, key, value))
    if rc == -ENOENT:
        return None
    check(rc, "look up a map")
    return bytes(ffi.buffer(value))


def delete(fd: int, key: bytes) -> None:
    """Remove a row; absent is fine."""
    rc = _libc(lib.bpf_map_delete_elem(fd, key))
    if rc != -ENOENT:
        check(rc, "delete from a map")


def rows(fd: int, zeros: bool = True, batch: int = BATCH) -> Iterator[tuple[bytes, bytes]]:
    """All rows of a hash map, in batches; without ``zeros`` those whose value is not 0. To read a
    batch of 4,096 holds this thread up for 2 ms."""
    info = map_info(fd)
    room, size = batch, info.row_size
    token, following = ffi.NULL, ffi.new("char[]", 8)
    while True:
        keys = ffi.new("char[]", info.key_size * room)
        values = ffi.new("char[]", size * room)
        count = ffi.new("uint32_t *", room)
        rc = lib.km_lookup_batch(fd, token, following, keys, values, count)
        if rc == -ENOSPC and room < 1 << 24:  # one bucket holds more than the batch
            room *= 2
            continue
        if rc != -ENOENT:
            check(rc, "read a map")
        raw_keys, raw_values = bytes(ffi.buffer(keys)), bytes(ffi.buffer(values))
        if zeros or raw_values[: size * count[0]] != bytes(size * count[0]):
            nothing = b"" if zeros else bytes(size)
            for i in range(count[0]):
                value = raw_values[i * size : (i + 1) * size]
                if value != nothing:
                    yield raw_keys[i * info.key_size : (i + 1) * info.key_size], value
        if rc == -ENOENT:
            return
        token, following = following, ffi.new("char[]", 8)


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
    room = BATCH
    total = 0
    token, following = ffi.NULL, ffi.new("char[]", 8)
    keys, values = ffi.new("char[]", info.key_size * room), ffi.new("char[]", info.row_size * room)
    while True:
        found = ffi.new("uint32_t *", room)
        rc = lib.km_lookup_batch(fd, token, following, keys, values, found)
        if rc == -ENOSPC and room < 1 << 24:  # one bucket holds more than the batch
            room *= 2
            keys = ffi.new("char[]", info.key_size * room)
            values = ffi.new("char[]", info.row_size * room)
            continue
        if rc != -ENOENT:
            check(rc, "count a map")
        total += int(found[0])
        if rc == -ENOENT:
            return total
        token, following = following, ffi.new("char[]", 8)


def _keys(fd: int, size: int) -> Iterator[bytes]:
    key, following = ffi.NULL, ffi.new("char[]", size)
    while _libc(lib.bpf_map_get_next_key(fd, key, following)) == 0:
        yield bytes(ffi.buffer(following))
        key, following = following, ffi.new("char[]", size)


def helper_allowed(attach_type: int, helper: int) -> bool:
    """Whether sock_addr programs of this attach type may call the helper on this kernel."""
    return bool(check(lib.km_helper_allowed(attach_type, helper), "probe a helper"))


def attach(program: int, target: int, attach_type: int) -> int:
    """A new link's fd; ``target`` is an open cgroup or network namespace."""
    return check(lib.km_link(program, target, attach_type), "attach a program")


def run_iterator(program: int, netns: int) -> None:
    """Run an iterator over the sockets of an open network namespace. Enters it meanwhile: run in
    a thread of its own."""
    check(lib.km_run_iterator(program, netns), "run an iterator")


def run_map_iterator(program: int, map_: int) -> None:
    """Run an iterator over the values of a map."""
    check(lib.km_run_map_iterator(program, map_), "run an iterator over a map")


def socket_in(netns: int, domain: int, type_: int, protocol: int) -> int:
    """An fd of a socket in an open network namespace. Enters it for a moment: as above."""
    return check(lib.km_socket_in(netns, domain, type_, protocol), "make a socket")


def interfaces(netns: int) -> list[int]:
    """Indexes of the interfaces of an open network namespace but loopback; as above."""
    found = ffi.new("uint32_t[]", MOST_INTERFACES)
    count = check(lib.km_interfaces(netns, found, MOST_INTERFACES), "list interfaces")
    if count > MOST_INTERFACES:
        raise BpfError(f"a network namespace has {count} interfaces, {MOST_INTERFACES} at most fit")
    return list(found[0:count])


def attach_interface(netns: int, program: int, index: int, attach_type: int) -> int:
    """An fd of a new link of a program to an interface; as above."""
    rc = lib.km_link_interface(netns, program, index, attach_type)
    return check(rc, f"attach to interface {index}")


def filter_interface(netns: int, program: int, index: int) -> None:
    """Make a program the ingress filter of an interface, instead of its last one; as above."""
    check(lib.km_filter_interface(netns, program, index), f"filter interface {index}")


def unfilter_interface(netns: int, index: int) -> None:
    """Take the filter away; absent is fine."""
    check(lib.km_unfilter_interface(netns, index), f"stop filtering interface {index}")


def replace_program(link: int, program: int, expected: int) -> None:
    """Swap the program behind a link, atomically for every caller, if it is the expected one."""
    check(lib.km_link_replace(link, program, expected), "replace the program of a link")


def program(number: int) -> int:
    """An fd of the program of this id."""
    return check(_libc(lib.bpf_prog_get_fd_by_id(number)), f"open program {number}")


def link_info(link: int) -> LinkInfo:
    """Where a link leads."""
    found = ffi.new("struct km_link_info *")
    check(lib.km_link_info(link, found), "read a link")
    return LinkInfo(int(found.program), int(found.target))


def program_id(program: int) -> int:
    """Id of a program."""
    found = ffi.new("uint32_t *")
    check(lib.km_prog_id(program, found), "read a program")
    return int(found[0])


def program_maps(number: int) -> list[int]:
    """Ids of the maps that a program uses, by the program's id; none when it is gone."""
    fd = lib.bpf_prog_get_fd_by_id(number)
    if fd < 0:
        return []
    try:
        ids = ffi.new("uint32_t[]", MOST_MAPS)
        count = check(lib.km_prog_map_ids(fd, ids, MOST_MAPS), "read a program's maps")
        return [int(ids[i]) for i in range(min(count, MOST_MAPS))]
    finally:
        os.close(fd)


def has_map(number: int) -> bool:
    """Whether the kernel has a map of this id."""
    fd = lib.bpf_map_get_fd_by_id(number)
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)


def run_time(program: int) -> tuple[int, int]:
    """(nanoseconds, runs) since load; counted while kernel.bpf_stats_enabled is 1."""
    ns, runs = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    check(lib.km_prog_run_time(program, ns, runs), "read a program")
    return int(ns[0]), int(runs[0])


def measure_run_time() -> int:
    """An fd for as long as which the kernel measures the run time of programs. Raises BpfError."""
    return check(_libc(lib.bpf_enable_stats(RUN_TIME)), "measure the run time of programs")


def possible_cpus() -> int:
    """How many values a per-CPU element has."""
    return check(lib.libbpf_num_possible_cpus(), "count CPUs")


def netns_cookie(fd: int) -> int:
    """Cookie of an open network namespace. Enters it for a moment: run in a thread of its own."""
    rc = lib.km_netns_cookie(fd)
    if rc == -ENOPROTOOPT:
        return netns_cookie_by_program(fd)
    return check(rc, "read a namespace's cookie")


def tells_netns_cookie(fd: int) -> bool:
    """Whether ``netns_cookie`` can ask a socket on this kernel; else it asks a program."""
    rc = lib.km_netns_cookie(fd)
    return rc != -ENOPROTOOPT and check(rc, "read a namespace's cookie") > 0


def netns_cookie_by_program(fd: int) -> int:
    """The same where sockets cannot be asked: slower, and raises MountError without cgroup2."""
    path, cgroup2 = COOKIE_OBJECT.encode(), mounts.find_cgroup2().encode()
    rc = lib.km_netns_cookie_by_program(fd, path, cgroup2)
    return check(rc, "ask a program for a namespace's cookie")


class Object:
    """One object file on its way into the kernel; ``close`` frees what was not handed out."""

    LOG_SIZE = 1 << 20

    def __init__(self, path: str) -> None:
        lib.km_log_reset()
        self._object = lib.bpf_object__open(path.encode())
        if self._object == ffi.NULL:
            raise BpfError(f"cannot open {path}: {self.log()}", ffi.errno)
        self._logs: dict[str, object] = {}

    def resize(self, name: str, entries: int) -> None:
        """Set a map's size before load."""
        check(lib.bpf_map__set_max_entries(self._map(name), entries), f"size map {name}")

    def reuse(self, name: str, fd: int) -> None:
        """Use an existing map instead of making one."""
        check(lib.bpf_map__reuse_fd(self._map(name), fd), f"use the pinned map {name}")

    def set_read_only(self, value: bytes) -> None:
        """Set the start of the read-only data."""
        size = ffi.new("size_t *")
        data = lib.bpf_map__initial_value(self._map(".rodata"), size)
        if data == ffi.NULL or size[0] < len(value):
            raise BpfError("the object has no such read-only data")
        ffi.memmove(data, value, len(value))

    def explain(self, programs: Sequence[str]) -> None:
        """Keep what the verifier says of these programs: a megabyte each, so only when asked."""
        for name in programs:
            self._logs[name] = ffi.new("char[]", self.LOG_SIZE)
            lib.bpf_program__set_log_buf(self._program(name), self._logs[name], self.LOG_SIZE)

    def load(self) -> tuple[int, str]:
        """(0, "") or (errno, what libbpf and, if asked, the verifier said)."""
        rc = lib.bpf_object__load(self._object)
        if rc >= 0:
            return 0, ""
        texts = (ffi.string(log).decode(errors="replace") for log in self._logs.values())
        return -rc, "\n".join([*filter(None, texts), self.log()])

    def map_fd(self, name: str) -> int:
        """A map's fd of its own: it stays open after close()."""
        return os.dup(check(lib.bpf_map__fd(self._map(name)), f"map {name}"))

    def program_fd(self, name: str) -> int:
        """A program's fd of its own."""
        return os.dup(check(lib.bpf_program__fd(self._program(name)), f"program {name}"))

    def close(self) -> None:
        """Free the object."""
        lib.bpf_object__close(self._object)

    @staticmethod
    def log() -> str:
        """What libbpf had to say since the last open."""
        text: str = ffi.string(lib.km_log_text()).decode(errors="replace")
        return text.strip()

    def _map(self, name: str):  # type: ignore[no-untyped-def]
        found = lib.bpf_object__find_map_by_name(self._object, name.encode())
        if found == ffi.NULL:
            raise BpfError(f"the object has no map {name}")
        return found

    def _program(self, name: str):  # type: ignore[no-untyped-def]
        found = lib.bpf_object__find_program_by_name(self._object, name.encode())
        if found == ffi.NULL:
            raise BpfError(f"the object has no program {name}")
        return found
