"""Ring buffers: records out of the kernel, many at a time."""

from __future__ import annotations

import os

from kmesh._native import ffi, lib
from kmesh.bpf.lib import check, map_info
from kmesh.errors import BpfError

HEADER = 8  # bytes before each record


class Ring:
    """The reader of one ring buffer map; there must be only one. ``fd`` is a descriptor of its own,
    which can be read when there is something; ``room`` is for how many records there is room."""

    def __init__(self, fd: int, record_size: int, records: int = 1024) -> None:
        """``records`` of ``record_size`` bytes are taken at most in one turn."""
        self._buffer = ffi.new("char[]", record_size * records)
        self._used = ffi.new("uint32_t *")
        self.room = map_info(fd).max_entries // (record_size + HEADER)
        self.fd = os.dup(fd)  # whoever opened the map closes theirs when tables grow
        self._ring = lib.km_ring_open(self.fd)
        if self._ring == ffi.NULL:
            number = ffi.errno
            os.close(self.fd)
            raise BpfError("cannot read a ring buffer", number)

    def drain(self) -> tuple[bytes, bool]:
        """(whole records, one after the other; whether there may be more). Raises BpfError."""
        size = len(self._buffer)
        more = check(lib.km_ring_drain(self._ring, self._buffer, size, self._used), "read a ring")
        return bytes(ffi.buffer(self._buffer, self._used[0])), bool(more)

    def close(self) -> None:
        """Let go of the map."""
        lib.km_ring_close(self._ring)
        os.close(self.fd)
