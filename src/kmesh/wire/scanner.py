"""The C scanner's buffers: one DeltaDiscoveryResponse in pieces, records out."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh._native import ffi, lib
from kmesh.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.wire.mesh import Mesh

Buffer = Any  # of cffi: like bytes, slices are bytes

# struct km_scan_record: kind, code, detail, then start and end of name, version, raw, extra,
# shared, profile, addrs.
RECORD = Struct("=17I")
assert RECORD.size == ffi.sizeof("struct km_scan_record")

LONGEST = 4 << 20  # bytes of one resource: a workload has about 400
# Not looked up for every piece.
_feed, _buffer = lib.km_scan_feed, ffi.buffer
_FULL, _GROW, _MALFORMED = lib.KM_SCAN_FULL, lib.KM_SCAN_GROW, lib.KM_SCAN_MALFORMED
_RECORDS = 256  # services take 3 ms
_REFS, _PACKED = 4096, 512 << 10


class Batch(NamedTuple):
    """``records`` unpack by RECORD; their spans lie in ``data`` and ``packed``.

    Good until the next call of the scanner: records and packed are its memory, not copies.
    """

    data: bytes
    records: Buffer
    packed: Buffer


class Buffers:
    """Memory that the scanner writes to; may serve several scans in turn. Workloads go to ``mesh``
    if there is one."""

    def __init__(self, mesh: Mesh | None = None) -> None:
        self._mesh = mesh
        self.state = ffi.new("struct km_scan *")
        self.state.mesh = ffi.NULL if mesh is None else mesh.native
        self._records = ffi.new("struct km_scan_record[]", _RECORDS)
        self.state.records = self._records
        self.state.records_size = _RECORDS
        self.state.limit = LONGEST
        self._allot(_REFS, _PACKED)

    def _allot(self, refs: int, packed: int) -> None:
        self._refs = ffi.new("struct km_scan_ref[]", refs)
        self._packed = ffi.new("uint8_t[]", packed)
        self.state.refs, self.state.refs_size = self._refs, refs
        self.state.packed, self.state.packed_size = self._packed, packed

    def grow(self) -> None:
        """Twice the room for one resource; what is needed is bounded by LONGEST."""
        self._allot(self.state.refs_size * 2, self.state.packed_size * 2)

    def shrink(self) -> None:
        """Give back what a giant resource needed."""
        if self.state.refs_size != _REFS:
            self._allot(_REFS, _PACKED)

    def take(self, data: bytes) -> Batch:
        """What the last call found."""
        if self._mesh is not None:
            self._mesh.take(self.state, data)
        state = self.state
        records = _buffer(self._records, state.records_used * RECORD.size)
        return Batch(data, records, _buffer(self._packed, state.packed_used))


class Scan:
    """One response. Holds back the bytes of an incomplete field."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._held: list[bytes] = []
        self._size = self._need = self._offset = 0
        self._error = ""

    def feed(self, data: bytes) -> Iterator[Batch]:
        """All that is complete now; raises WireError for good when the bytes are malformed."""
        self._check()
        start = 0
        if self._held:
            # Only the field across the border is copied; if its size is not known yet, all is.
            missing = self._need - self._size if self._need else len(data)
            self._held.append(data if missing >= len(data) else data[:missing])
            self._size += len(self._held[-1])
            if self._size < self._need:
                return
            yield from self._scan(b"".join(self._held), 0)
            start = missing
        if start < len(data):
            yield from self._scan(data, start)

    def finish(self) -> None:
        """The message ended; raises WireError when a field is incomplete."""
        self._check()
        self._buffers.shrink()
        if self._size:
            self._fail(f"it ends within a field, {self._size} bytes after its start")

    def _check(self) -> None:
        if self._error:
            raise WireError(self._error)

    def _fail(self, why: str) -> None:
        self._held.clear()
        self._buffers.shrink()
        self._error = f"unreadable discovery response at byte {self._offset}: {why}"
        raise WireError(self._error)

    def _scan(self, data: bytes, start: int) -> Iterator[Batch]:
        state, result = self._buffers.state, _FULL
        while result in (_FULL, _GROW):
            result = _feed(state, data, start, len(data))
            if result == _GROW:
                self._buffers.grow()
                continue
            if result != _MALFORMED and state.records_used:
                yield self._buffers.take(data)
            consumed = state.consumed
            self._offset += consumed - start
            start = consumed
        if result == _MALFORMED:
            self._fail("malformed")
        if result == lib.KM_SCAN_TOO_LARGE:
            self._fail(f"a field of {state.need} bytes, at most {LONGEST} are read")
        self._size, self._need = len(data) - start, state.need
        self._held = [data[start:]] if self._size else []
