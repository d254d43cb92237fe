"""The mesh's workloads as the mappings that a core.roster.Roster has, and who owns addresses."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kmesh._native import ffi, lib
from kmesh.core.model import Workload
from kmesh.wire.spans import raw, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.wire.mesh import Mesh

_ENTRY = array("I").itemsize


class Workloads(Mapping[str, Workload]):
    """Uid to row, made when it is asked for."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def __getitem__(self, uid: str) -> Workload:
        found = self._mesh.workload(uid)
        if found is None:
            raise KeyError(uid)
        return found

    def get(self, uid: str, default: Any = None) -> Any:
        """As of any mapping, without an exception on the way."""
        return self._mesh.workload(uid) or default

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, str) and self._mesh.stamp(uid) is not None

    def __iter__(self) -> Iterator[str]:
        return self._mesh.names()

    def __len__(self) -> int:
        return int(self._mesh.count().workloads)


class Endpoints(Mapping[str, Workload]):
    """The endpoints of one service, as they were when it was asked."""

    def __init__(self, mesh: Mesh, entries: array[int]) -> None:
        self._mesh, self._entries = mesh, entries

    def _rows(self) -> Iterator[Workload]:
        return filter(None, map(self._mesh.at, self._entries))

    def __getitem__(self, uid: str) -> Workload:
        for row in self._rows():
            if row.uid == uid:
                return row
        raise KeyError(uid)

    def __iter__(self) -> Iterator[str]:
        return (row.uid for row in self._rows())

    def __len__(self) -> int:
        return len(self._entries)

    def values(self) -> Any:
        """The rows themselves."""
        return list(self._rows())

    def items(self) -> Any:
        """Uids with their rows, as they are when their turn comes."""
        return ((row.uid, row) for row in self._rows())


class Members(Mapping[str, Mapping[str, Workload]]):
    """Service to its endpoints."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._entries = ffi.new("uint32_t **")

    def __getitem__(self, service: str) -> Endpoints:
        key = raw(service)
        count = lib.km_mesh_members(self._mesh.native, key, len(key), self._entries)
        if not count:
            raise KeyError(service)
        # A list of 100,000 numbers takes 3 ms, and more of each look of the garbage collector.
        entries = array("I", bytes(ffi.buffer(self._entries[0], _ENTRY * count)))
        return Endpoints(self._mesh, entries)

    def __iter__(self) -> Iterator[str]:
        workloads = self._mesh.workloads.values()
        return iter({member.service for one in workloads for member in one.memberships})

    def __len__(self) -> int:
        return sum(1 for _ in self)


class MeshOwners:
    """See core.roster.Owners."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._row = ffi.new("struct km_mesh_row *")

    def owner(self, network: str, addr: bytes) -> str | None:
        """The uid that owns the address."""
        net, row = network.encode(), self._row
        found = lib.km_mesh_owner(self._mesh.native, net, len(net), addr, row)
        return text(row.name) if found else None

    def count(self, network: str) -> int:
        """How many addresses of a network are owned."""
        net = network.encode()
        return int(lib.km_mesh_owned(self._mesh.native, net, len(net)))

    def contested(self, network: str, addr: bytes) -> bool:
        """Whether more than one workload claims the address."""
        net = network.encode()
        return bool(lib.km_mesh_contested(self._mesh.native, net, len(net), addr))

    @property
    def conflicts(self) -> int:
        """How many addresses are claimed by more than one workload."""
        return int(self._mesh.count().contested)
