"""The mesh's workloads in C (native/mesh.h): rows are made when somebody asks for one.

100,000 workloads as Python rows cost 95 MB and a second of CPU; here they are their bytes and
60 bytes more each.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, Any

from kmesh._native import ffi, lib
from kmesh.core.ids import MOST, Ids
from kmesh.core.model import Families, Identity, Profile, Resource, Workload
from kmesh.core.quick import NEW
from kmesh.core.roster import Chosen
from kmesh.wire import packed
from kmesh.wire.mesh_ids import MeshIds
from kmesh.wire.mesh_views import Members, MeshOwners, Workloads
from kmesh.wire.spans import raw, taken, text
from kmesh.wire.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmesh.core.model import Port
    from kmesh.core.roster import Asked
    from kmesh.wire.parts import Parts

_ROOM = 32 << 10  # bytes of names at a time: less than a millisecond
_CLAIMS = 256 << 10  # bytes of claims at a time: the same
_UNSET: Any = ffi.new_allocator(should_clear_after_alloc=False)
_KEPT = 4096  # rows that were asked for
_FAMILIES = {
    Families.IPV4_ONLY: lib.KM_SELECT_IPV4_ONLY,
    Families.IPV6_ONLY: lib.KM_SELECT_IPV6_ONLY,
}
_SELECTION = Struct("=5I")  # struct km_mesh_selection up to its pointer
_KIND = Struct("=2I")
# Not looked up for every service.
_select, _EXACT, _UNHEALTHY = lib.km_mesh_select, lib.KM_SELECT_EXACT, lib.KM_SELECT_UNHEALTHY
_NO_ROW = Workload("", Identity(), Profile(), (), ())


class Mesh:
    """A core.roster.Roster that is filled by the scanner: ``take`` instead of ``put``."""

    def __init__(self, parts: Parts, node: str = "", cluster: str = "Kubernetes") -> None:
        here = node.encode(), cluster.encode()
        seed = int.from_bytes(os.urandom(8), "little")
        made = lib.km_mesh_new(seed, here[0], len(here[0]), here[1], len(here[1]))
        self.native = ffi.gc(made, lib.km_mesh_free)
        self.parts = parts
        self.revision = 1
        self.taken = 0  # ever
        self._row = ffi.new("struct km_mesh_row *")
        self._part = ffi.new("struct km_bytes *")
        self._selection = ffi.new("struct km_mesh_selection *")
        self._selected = ffi.buffer(self._selection, _SELECTION.size)
        self._kinds: Table[bytes, tuple[tuple[tuple[Port, ...], int], ...]] = Table(_KEPT)
        self._kept: Table[str, tuple[int, Resource]] = Table(_KEPT)
        self.workloads = Workloads(self)
        self.members = Members(self)
        self.claims = MeshOwners(self)
        self.ids = Ids(MeshIds(self))

    def take(self, scan: Any, data: bytes) -> None:
        """Keep the workloads that the scanner found and take them out of its records."""
        self.taken += lib.km_mesh_take(self.native, scan, data, self.revision)

    def put(self, new: Workload) -> None:
        """Rows have no bytes that a dump could show."""
        raise TypeError(f"{new.uid} did not come through the scanner")

    def drop(self, uid: str) -> None:
        """Nothing: what the control plane removed is gone already, and may have come again."""

    def remove(self, uid: str) -> bool:
        """The control plane removed it; whether it was there."""
        name = raw(uid)
        return bool(lib.km_mesh_drop(self.native, name, len(name)))

    def answered(self, uid: str) -> None:
        """It was heard of on this stream."""
        name = raw(uid)
        lib.km_mesh_answered(self.native, name, len(name))

    def tell(self, uid: str) -> None:
        """The next time that it comes it is taken, even as it is."""
        name = raw(uid)
        lib.km_mesh_tell(self.native, name, len(name))

    def count(self) -> Any:
        """Struct km_mesh_counts."""
        return lib.km_mesh_count(self.native)

    def resource(self, uid: str, *, keep: bool = True) -> Resource | None:
        """A workload as it came; the same object as long as it is the same, unless too many others
        were asked for meanwhile. Who asks for all of them does not ``keep`` them."""
        row = self._find(uid)
        if row is None:
            return None
        kept = self._kept.get(uid)
        version = text(row.version)
        if kept is not None and kept[0] == row.stamp and kept[1].version == version:
            return kept[1]
        made = uid, version, taken(row.raw), self._made(uid, row)
        found: Resource = NEW(Resource, made)
        if keep:
            self._kept.put(uid, (row.stamp, found))
        return found

    def bare(self, uid: str) -> Resource | None:
        """A workload as it came, with an empty row, for who reads its bytes alone."""
        row = self._find(uid)
        if row is None:
            return None
        made = uid, text(row.version), taken(row.raw), _NO_ROW
        found: Resource = NEW(Resource, made)
        return found

    def workload(self, uid: str) -> Workload | None:
        """The row of one workload."""
        row = self._find(uid)
        return None if row is None else self._made(uid, row)

    def at(self, entry: int) -> Workload | None:
        """The row of a workload by its entry."""
        row = self._row
        return self._made(text(row.name), row) if lib.km_mesh_at(self.native, entry, row) else None

    def _find(self, uid: str) -> Any:
        name = raw(uid)
        found = lib.km_mesh_find(self.native, name, len(name), self._row)
        return self._row if found else None

    def _made(self, uid: str, row: Any) -> Workload:
        shared = self.parts.shared(taken(row.shared))
        addrs = taken(row.addrs)
        split = tuple([addrs[i : i + 16] for i in range(0, len(addrs), 16)])
        where = self.parts.profile(taken(row.profile))
        made: Workload = NEW(Workload, (uid, shared.identity, where, split, *shared.rest))
        return made

    def names(self, after: int = 0) -> Iterator[str]:
        """Of all workloads whose revision is above ``after``."""
        return self._texts(
            lambda entry, to, size: lib.km_mesh_names(self.native, entry, after, to, size)
        )

    def unclaimed(self) -> Iterator[str]:
        """Of those that were neither claimed nor answered."""
        return self._texts(
            lambda entry, to, size: lib.km_mesh_unclaimed(self.native, entry, to, size)
        )

    def claims_encoded(self) -> Iterator[memoryview]:
        """Map entries of a request, piece by piece."""
        return self.pieces(
            lambda entry, to, size: lib.km_mesh_claims(self.native, entry, to, size), _CLAIMS
        )

    def _texts(self, write: Callable[[Any, Any, int], int]) -> Iterator[str]:
        for piece in self.pieces(write):
            # The separator, invalid in UTF-8, becomes a lone surrogate.
            yield from str(piece[:-1], "utf-8", "surrogateescape").split("\udcff")

    @staticmethod
    def pieces(write: Callable[[Any, Any, int], int], room: int = _ROOM) -> Iterator[memoryview]:
        """What a function of native/mesh.h writes, call by call, about ``room`` bytes each."""
        entry, size = ffi.new("uint32_t *"), room
        while used := write(entry, to := _UNSET("uint8_t[]", size), size):
            if used <= size:
                yield memoryview(ffi.buffer(to, used))
            size = used if used > size else room  # a longer one is for one long name alone

    def touched(self) -> Iterator[str]:
        """See Roster."""
        while lib.km_mesh_touched(self.native, self._part):
            yield text(self._part)

    def local(self) -> dict[Profile, int] | None:
        """See Roster."""
        if not lib.km_mesh_here(self.native):
            return None
        at, found = ffi.new("uint32_t *"), {}
        while count := lib.km_mesh_local(self.native, at, self._part):
            found[self.parts.profile(taken(self._part))] = int(count)
        return found

    def stamp(self, uid: str) -> int | None:
        """See Roster."""
        row = self._find(uid)
        return None if row is None else int(row.stamp)

    def watch(self) -> None:
        """See Roster."""
        lib.km_mesh_watch(self.native, True)

    def moved(self) -> list[bytes]:
        """See Roster."""
        at = ffi.new("uint8_t **")
        count = lib.km_mesh_moved(self.native, at)
        found = bytes(ffi.buffer(at[0], 16 * count)) if count else b""
        return [found[i : i + 16] for i in range(0, len(found), 16)]

    def keep_left(self) -> None:
        """See Roster."""
        lib.km_mesh_keep_left(self.native)

    def left(self) -> Iterator[tuple[Workload, Workload | None]]:
        """See Roster."""
        while lib.km_mesh_left(self.native, self._row):
            uid = text(self._row.name)
            yield self._made(uid, self._row), self.workload(uid)

    def identities(self) -> set[Identity]:
        """See Roster."""
        at, found = ffi.new("uint32_t *"), set()
        while lib.km_mesh_shared(self.native, at, self._part):
            found.add(self.parts.shared(taken(self._part)).identity)
        return found

    def addresses(self) -> Iterator[bytes]:
        """See Roster."""
        entry, room = ffi.new("uint32_t *"), 1 << 18  # more than one resource can have
        to = ffi.new("uint8_t[]", 16 * room)
        while count := lib.km_mesh_addresses(self.native, entry, to, room):
            found = bytes(ffi.buffer(to, 16 * count))
            for i in range(0, len(found), 16):
                yield found[i : i + 16]

    def select(self, asked: Asked) -> Chosen | None:
        """See Roster."""
        if self.ids.last > MOST >> 1:
            return None  # soon they go round
        service, network, vip, exact, unhealthy, families = asked
        key, net, out = service.encode(), network.encode(), self._selection
        flags = _FAMILIES.get(families, 0)
        if exact:
            flags |= _EXACT
        if unhealthy:
            flags |= _UNHEALTHY
        _select(self.native, key, len(key), net, len(net), vip, flags, self.ids.last, out)
        count, wrong_family, parts, last, kinds = _SELECTION.unpack(self._selected)
        self.ids.took(last)
        if not count:
            return Chosen(b"", (), bool(wrong_family))
        if not parts:
            return None
        end = 24 * count
        found = bytes(ffi.buffer(out.slots, end + kinds))
        key = found[end:]
        known = self._kinds.get(key) or self._kinds.put(key, self._unpacked(key))
        chosen: Chosen = NEW(Chosen, (found[:end], known, bool(wrong_family)))
        return chosen

    def _unpacked(self, kinds: bytes) -> tuple[tuple[tuple[Port, ...], int], ...]:
        """Of a selection: ports with the weight of those that have them."""
        found, at = [], 0
        while at < len(kinds):
            capacity, size = _KIND.unpack_from(kinds, at)
            at += _KIND.size + size
            found.append((packed.ports(kinds[at - size : at], self.parts.tables), capacity))
        return tuple(found)
