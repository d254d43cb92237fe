"""What every call into the kernel has in common: its outcome, its pins."""

from __future__ import annotations

import os
from errno import EACCES, ENOENT, EPERM, errorcode

from kmesh._native import ffi, lib
from kmesh.errors import BpfError


def check(rc: int, what: str) -> int:
    """``rc`` if it is not negative; else raises BpfError for the errno it carries."""
    if rc >= 0:
        return rc
    code = -rc
    step = None if code in (EPERM, EACCES) else "Nothing was changed by the failed call."
    name = errorcode.get(code, str(code))
    raise BpfError(f"{what}: {name} ({os.strerror(code)})", code, step)


def libc(rc: int) -> int:
    """libbpf 1.x returns -errno itself; older calls leave it in errno."""
    return rc if rc >= 0 or rc < -1 else -(ffi.errno or 1)


def pin(fd: int, path: str) -> None:
    """Pin a map, program or link."""
    check(libc(lib.bpf_obj_pin(fd, path.encode())), f"pin {path}")


def pinned(path: str) -> int | None:
    """A new fd of what is pinned there; None when nothing is."""
    rc = libc(lib.bpf_obj_get(path.encode()))
    return None if rc == -ENOENT else check(rc, f"open {path}")
