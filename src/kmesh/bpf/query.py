"""What others have attached, and what this kernel can do. Nothing is changed by asking."""

from __future__ import annotations

import os
from errno import EINVAL, ENOENT, ENOSPC
from typing import TYPE_CHECKING, NamedTuple

from kmesh._native import ffi, lib
from kmesh.bpf.lib import check
from kmesh.bpf.objects import TCX_INGRESS

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = 1  # its index, in every namespace
MOST = 64  # programs at one hook: the kernel allows no more


class Program(NamedTuple):
    """One program in the kernel; ``name`` has at most 15 bytes."""

    id: int
    type: int
    name: str


def attached(target: int, attach_type: int, *, effective: bool = False) -> list[int] | None:
    """Ids of the programs at a hook of an open cgroup or network namespace, or of an interface by
    its index, in the order in which they run; with ``effective`` also those of the cgroups above.
    None: the kernel has no such hook. Raises BpfError."""
    ids = ffi.new("uint32_t[]", MOST)
    rc = lib.km_query(target, attach_type, effective, ids, MOST)
    if rc == -EINVAL:
        return None
    if rc == -ENOSPC:
        return list(ids)
    return [int(ids[i]) for i in range(min(check(rc, "ask for attached programs"), MOST))]


def program(number: int) -> Program | None:
    """A program by its id; None when it is gone. Raises BpfError."""
    facts = ffi.new("struct km_prog_facts *")
    rc = lib.km_prog_facts(number, facts)
    if rc == -ENOENT:
        return None
    check(rc, f"read program {number}")
    name: str = ffi.string(facts.name).decode(errors="replace")
    return Program(int(facts.id), int(facts.type), name)


def programs() -> Iterator[Program]:
    """Every program in the kernel. Raises BpfError."""
    number, following = 0, ffi.new("uint32_t *")
    while check(lib.km_next_prog(number, following), "list programs"):
        number = int(following[0])
        if (found := program(number)) is not None:
            yield found


def has_program_type(number: int) -> bool:
    """Whether the kernel has this type of program. Raises BpfError."""
    return bool(check(lib.km_probe_program(number), "probe a program type"))


def has_map_type(number: int) -> bool:
    """Whether the kernel has this type of map. Raises BpfError."""
    return bool(check(lib.km_probe_map(number), "probe a map type"))


def has_helper(program_type: int, helper: int) -> bool:
    """Whether programs of a type may call a helper on this kernel. Raises BpfError."""
    return bool(check(lib.km_probe_helper(program_type, helper), "probe a helper"))


def has_batches() -> bool:
    """Whether rows of a hash map can be read many at a time. Raises BpfError."""
    return bool(check(lib.km_probe_batch(), "probe batches"))


def has_interface_links() -> bool:
    """Whether programs can be linked to interfaces (tcx). Raises BpfError."""
    return attached(LOOPBACK, TCX_INGRESS) is not None


def attached_at(path: str, attach_type: int) -> list[int] | None:
    """As ``attached``, by the path of a cgroup or of a namespace file. Raises OSError, BpfError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return attached(fd, attach_type)
    finally:
        os.close(fd)
