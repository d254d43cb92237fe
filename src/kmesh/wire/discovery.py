"""Delta discovery on the wire: responses read in pieces to model rows, requests written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh._native import lib
from kmesh.core.events import AUTHORIZATION, Envelope
from kmesh.core.model import Authorization, Rejected, Resource, Workload
from kmesh.core.quick import NEW
from kmesh.wire import authorization, packed
from kmesh.wire.errors import WireError
from kmesh.wire.parts import Parts, PartStatistics
from kmesh.wire.reasons import reason
from kmesh.wire.request import encode_request, request_pieces
from kmesh.wire.scanner import RECORD, Batch, Buffers, Scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.wire.mesh import Mesh

__all__ = [
    "Decoder",
    "ResponseReader",
    "WireError",
    "encode_request",
    "request_pieces",
]

_WORKLOAD = lib.KM_SCAN_WORKLOAD
_SERVICE = lib.KM_SCAN_SERVICE
_REJECTED = lib.KM_SCAN_REJECTED
_REMOVED = lib.KM_SCAN_REMOVED


class Decoder:
    """What outlives a response: buffers and the tables of shared values. Workloads go to ``mesh``
    instead of becoming rows, if there is one.

    Serves any number of readers, one at a time: a reader's ``feed`` must return before another's
    is called.
    """

    def __init__(self, mesh: Mesh | None = None) -> None:
        self.buffers = Buffers(mesh)
        self._parts = Parts() if mesh is None else mesh.parts

    def statistics(self) -> PartStatistics:
        """What an operator wants to know about the tables."""
        return self._parts.statistics()

    def resources(self, batch: Batch, rest: list[tuple[int, str]]) -> list[Resource]:
        """Rows of a batch's resources; its other fields are appended to ``rest`` as (kind, text).

        One loop without calls for the workloads: there are 100,000 of them.
        """
        data, records, keys = batch.data, batch.records, batch.packed[:]
        parts = self._parts
        shared_of, profile_of = parts.shared_known.get, parts.profiles_known.get
        new = NEW
        rows: list[Resource] = []
        append = rows.append
        for record in RECORD.iter_unpack(records):
            kind, _, _, n0, n1, v0, v1, r0, r1, x0, x1, s0, s1, p0, p1, a0, a1 = record
            name = str(data[n0:n1], "utf-8")
            if kind == _WORKLOAD:
                key = keys[s0:s1]
                shared = shared_of(key) or parts.shared(key)
                key = keys[p0:p1]
                where = profile_of(key) or parts.profile(key)
                addrs = (
                    (keys[a0:a1],)
                    if a1 - a0 == 16
                    else tuple([keys[i : i + 16] for i in range(a0, a1, 16)])
                )
                uid = str(data[x0:x1], "utf-8") if x1 else name
                row = new(Workload, (uid, shared[0], where, addrs, *shared[1]))
                append(new(Resource, (name, str(data[v0:v1], "utf-8"), data[r0:r1], row)))
                continue
            if kind >= _REMOVED:
                rest.append((kind, name))
                continue
            value = (
                packed.service(keys[s0:s1], parts.tables)
                if kind == _SERVICE
                else _uncommon(name, data, record)
            )
            append(new(Resource, (name, str(data[v0:v1], "utf-8"), data[r0:r1], value)))
        return rows


def _uncommon(name: str, data: bytes, record: tuple[int, ...]) -> Authorization | Rejected:
    kind, code, detail = record[:3]
    raw, text = data[record[7] : record[8]], str(data[record[9] : record[10]], "utf-8")
    if kind == _REJECTED:
        return Rejected(name, reason(code, detail, text))
    if text != AUTHORIZATION:
        return Rejected(name, f"resource type {text!r} is unknown")
    try:
        return authorization.decode(raw)
    except ValueError as error:
        return Rejected(name, str(error))


class ResponseReader:
    """Reads one DeltaDiscoveryResponse, given in pieces of any size."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._scan = Scan(decoder.buffers)
        self._rest: list[tuple[int, str]] = []

    def feed(self, data: bytes) -> list[Resource]:
        """Every resource that this piece completes, good or Rejected.

        Raises WireError when the bytes are no DeltaDiscoveryResponse, now and ever after.
        """
        return [row for rows in self.batches(data) for row in rows]

    def batches(self, data: bytes) -> Iterator[list[Resource]]:
        """The same, some hundred at a time; at least one batch, perhaps empty."""
        found = None
        for found in self._scan.feed(data):
            yield self._decoder.resources(found, self._rest)
        if found is None:
            yield []

    def finish(self) -> Envelope:
        """The message ended. Raises WireError when it is truncated or was malformed."""
        self._scan.finish()
        last = dict(self._rest)
        return Envelope(
            type_url=last.get(lib.KM_SCAN_TYPE_URL, ""),
            nonce=last.get(lib.KM_SCAN_NONCE, ""),
            removed=tuple([text for kind, text in self._rest if kind == _REMOVED]),
            system_version=last.get(lib.KM_SCAN_SYSTEM_VERSION, ""),
        )
