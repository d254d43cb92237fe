"""Open network namespaces: their cookies, sockets and interfaces.

What enters one for a moment is to be run in a thread of its own.
"""

from __future__ import annotations

from errno import ENOPROTOOPT
from pathlib import Path

from kmesh._native import ffi, lib
from kmesh.bpf import mounts
from kmesh.bpf.lib.calls import check
from kmesh.errors import BpfError

MOST_INTERFACES = 1024
COOKIE_OBJECT = str(Path(__file__).parents[2] / "bpf_c" / "cookie.bpf.o")


def run_iterator(program: int, netns: int) -> None:
    """Run an iterator over the sockets of an open network namespace. Enters it meanwhile: run in
    a thread of its own."""
    check(lib.km_run_iterator(program, netns), "run an iterator")


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
