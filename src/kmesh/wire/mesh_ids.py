"""Ids of workloads, beside these in C."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from kmesh._native import ffi, lib
from kmesh.wire.spans import raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.wire.mesh import Mesh

_ROOM = 32 << 10  # bytes of names, and names, at a time


class MeshIds(MutableMapping[str, int]):
    """Ids beside the workloads they are of, and of names that have no workload."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def __getitem__(self, name: str) -> int:
        found: int | None = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping, without an exception on the way."""
        key = raw(name)
        return int(lib.km_mesh_id(self._mesh.native, key, len(key))) or default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __setitem__(self, name: str, id_: int) -> None:
        key = raw(name)
        lib.km_mesh_set_id(self._mesh.native, key, len(key), id_)

    def __delitem__(self, name: str) -> None:
        self[name] = 0

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs())

    def items(self) -> Any:
        """Names with their ids, as they are when their turn comes."""
        return self.pairs()

    def pairs(self) -> Iterator[tuple[str, int]]:
        """The same."""
        ids, count = ffi.new("uint32_t[]", _ROOM), ffi.new("uint32_t *")

        def write(entry: Any, to: Any, size: int) -> int:
            written: int = lib.km_mesh_ids(self._mesh.native, entry, ids, count, to, size)
            return written

        for piece in self._mesh.pieces(write):
            names = str(piece[:-1], "utf-8", "surrogateescape").split("\udcff")
            yield from zip(names, ffi.unpack(ids, count[0]), strict=True)

    def __len__(self) -> int:
        return int(lib.km_mesh_id_count(self._mesh.native))
