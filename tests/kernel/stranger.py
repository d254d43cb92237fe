"""A program of somebody else at a hook: it lets every connection pass, in a cgroup of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import secrets
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.bpf import lib, mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
PROG_LOAD, SOCK_ADDR, CONNECT4 = 5, 18, 10
RETURN_ONE = struct.pack("<BBhi", 0xB7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)
ATTRIBUTES = "<IIQQIIQII16sII"


def load(name: str) -> int:
    """An fd of a connect4 program with this name."""
    code = ctypes.create_string_buffer(RETURN_ONE)
    licence = ctypes.create_string_buffer(b"GPL")
    raw = struct.pack(
        ATTRIBUTES, SOCK_ADDR, 2, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0,
        name.encode()[:15], 0, CONNECT4,
    )  # fmt: skip
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(raw)
    fd: int = libc.syscall(BPF_SYSCALL[platform.machine()], PROG_LOAD, attributes, len(raw))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


@contextlib.contextmanager
def stranger(name: str) -> Iterator[Path]:
    """The cgroup where a program of this name is attached until the block ends."""
    cgroup = Path(mounts.find_cgroup2()) / f"kmesh-test-{secrets.token_hex(4)}"
    cgroup.mkdir()
    try:
        with contextlib.ExitStack() as stack:
            program = load(name)
            stack.callback(os.close, program)
            target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, target)
            stack.callback(os.close, lib.attach(program, target, CONNECT4))
            yield cgroup
    finally:
        cgroup.rmdir()
