"""Object files on their way into the kernel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kmesh._native import ffi, lib
from kmesh.bpf.lib.calls import check
from kmesh.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Sequence


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
