"""Programs and their links."""

from __future__ import annotations

import os
from typing import NamedTuple

from kmesh._native import ffi, lib
from kmesh.bpf.lib.calls import check, libc

SET_RETVAL = 187
GET_NETNS_COOKIE = 122
MOST_MAPS = 64
RUN_TIME = 0  # BPF_STATS_RUN_TIME


class LinkInfo(NamedTuple):
    """A link: the id of the program behind it, and what it is attached to (a cgroup's id, the
    inode of a network namespace, the index of an interface; 0: to nothing any more)."""

    program: int
    target: int


def helper_allowed(attach_type: int, helper: int) -> bool:
    """Whether sock_addr programs of this attach type may call the helper on this kernel."""
    return bool(check(lib.km_helper_allowed(attach_type, helper), "probe a helper"))


def attach(program: int, target: int, attach_type: int) -> int:
    """A new link's fd; ``target`` is an open cgroup or network namespace."""
    return check(lib.km_link(program, target, attach_type), "attach a program")


def replace_program(link: int, program: int, expected: int) -> None:
    """Swap the program behind a link, atomically for every caller, if it is the expected one."""
    check(lib.km_link_replace(link, program, expected), "replace the program of a link")


def program(number: int) -> int:
    """An fd of the program of this id."""
    return check(libc(lib.bpf_prog_get_fd_by_id(number)), f"open program {number}")


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


def run_time(program: int) -> tuple[int, int]:
    """(nanoseconds, runs) since load; counted while kernel.bpf_stats_enabled is 1."""
    ns, runs = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    check(lib.km_prog_run_time(program, ns, runs), "read a program")
    return int(ns[0]), int(runs[0])


def measure_run_time() -> int:
    """An fd for as long as which the kernel measures the run time of programs. Raises BpfError."""
    return check(libc(lib.bpf_enable_stats(RUN_TIME)), "measure the run time of programs")


def run_map_iterator(program: int, map_: int) -> None:
    """Run an iterator over the values of a map."""
    check(lib.km_run_map_iterator(program, map_), "run an iterator over a map")
