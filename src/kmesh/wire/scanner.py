"""The C scanner's buffers: one DeltaDiscoveryResponse in pieces, records out."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from kmesh._native import ffi, lib
from kmesh.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

# struct km_scan_record: kind, code, detail, then start and end of name, version, raw, extra,
# shared, profile, addrs.
RECORD = Struct("=17I")
assert RECORD.size == ffi.sizeof("struct km_scan_record")

LONGEST = 4 << 20  # bytes of one resource: a workload has about 400
_PIECE = 256 << 10  # bytes scanned in one call
_RECORDS, _REFS, _PACKED = 1024, 4096, 512 << 10


class Batch(NamedTuple):
    """``records`` unpack by RECORD; their spans lie in ``data`` and ``packed``."""

    data: bytes
    records: bytes
    packed: bytes


class Buffers:
    """Memory that the scanner writes to; may serve several scans in turn."""

    def __init__(self) -> None:
        self.state = ffi.new("struct km_scan *")
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
        records = ffi.buffer(self._records, self.state.records_used * RECORD.size)[:]
        return Batch(data, records, ffi.buffer(self._packed, self.state.packed_used)[:])


class Scan:
    """One response. Holds back the bytes of an incomplete field."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._held: list[bytes] = []
        self._size = self._need = self._offset = 0
        self._error = ""

    def feed(self, data: bytes) -> Iterator[Batch]:
        """All that is complete now; raises WireError for good when the bytes are malformed."""
        for start in range(0, len(data), _PIECE):
            piece = data if len(data) <= _PIECE else data[start : start + _PIECE]
            self._held.append(piece)
            self._size += len(piece)
            if self._size >= self._need:
                yield from self._scan()

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

    def _scan(self) -> Iterator[Batch]:
        self._check()
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        state, result = self._buffers.state, lib.KM_SCAN_FULL
        while result in (lib.KM_SCAN_FULL, lib.KM_SCAN_GROW):
            result = lib.km_scan_feed(state, data, len(data))
            if result == lib.KM_SCAN_GROW:
                self._buffers.grow()
                continue
            if state.records_used and result != lib.KM_SCAN_MALFORMED:
                yield self._buffers.take(data)
            self._offset += state.consumed
            data = data[state.consumed :]
        if result == lib.KM_SCAN_MALFORMED:
            self._fail("malformed")
        if result == lib.KM_SCAN_TOO_LARGE:
            self._fail(f"a field of {state.need} bytes, at most {LONGEST} are read")
        self._held, self._size, self._need = [data] if data else [], len(data), state.need
