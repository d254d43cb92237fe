"""What the session holds of addresses: services as rows, workloads in C."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING

from kmesh._native import lib
from kmesh.core.held import Held, TypeStatistics
from kmesh.core.model import Resource, Workload
from kmesh.wire.claim import claim_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from kmesh.wire.mesh import Mesh


class HeldMesh(Held):
    """Workloads come by ``Mesh.take``, everything else by ``put``.

    A workload that comes again on a new stream as it is was answered, and is no news.
    A name that a workload and a service have is one of each, until both are removed.
    """

    __slots__ = ("_entries", "_mesh", "_taken", "_view")

    def __init__(self, mesh: Mesh) -> None:
        super().__init__()
        self._mesh = mesh
        self._view = Everything(self.items, mesh)
        self._taken = 0
        # What is claimed of rows, encoded when they come: with a new stream there is no time.
        self._entries: dict[str, bytes] = {}

    @property
    def view(self) -> Mapping[str, Resource]:
        """See Held."""
        return self._view

    def arrived(self) -> bool:
        """See Held."""
        before, self._taken = self._taken, self._mesh.taken
        return self._taken != before

    def refused(self, names: Iterable[str]) -> None:
        """See Held."""
        for name in names:
            self._mesh.tell(name)

    def revise(self, revision: int) -> None:
        """See Held."""
        self._mesh.revision = revision

    def changed_since(self, revision: int) -> Iterator[str]:
        """See Held."""
        return self._mesh.names(revision)

    def answered(self, names: Iterable[str]) -> None:
        """See Held."""
        super().answered(names)
        if self._mesh.count().unclaimed:
            for name in names:
                self._mesh.answered(name)

    def put(self, resources: Sequence[Resource]) -> None:
        """See Held."""
        super().put(resources)
        self._entries.update([(one[0], claim_entry(one[0], one[1])) for one in resources])

    def drop(self, names: Sequence[str]) -> None:
        """See Held."""
        super().drop(names)
        for name in names:
            self._entries.pop(name, None)
            self._mesh.remove(name)

    def claim(self, budget: int, doubtful: Collection[str]) -> MeshClaims:
        """See Held."""
        own, left = self._claim(budget, doubtful)
        count = lib.km_mesh_claim(self._mesh.native, left)
        return MeshClaims(own, self._mesh, count, self._encoded(len(own), doubtful))

    def _encoded(self, count: int, doubtful: Collection[str]) -> list[bytes]:
        """Of the first rows; doubtful ones are claimed without a version."""
        if not doubtful:
            return list(islice(self._entries.values(), count))
        first = islice(self._entries.items(), count)
        return [claim_entry(name, "") if name in doubtful else one for name, one in first]

    def sweep(self) -> tuple[str, ...]:
        """See Held."""
        swept = super().sweep()
        if not self._mesh.count().unclaimed:
            return swept
        more = tuple(self._mesh.unclaimed())
        lib.km_mesh_settle(self._mesh.native)
        self.count(swept=len(more))
        return swept + more

    def statistics(self) -> TypeStatistics:
        """See Held."""
        came = self.counts.resources + self._mesh.taken + int(self._mesh.count().again)
        return self.counts._replace(held=len(self._view), resources=came)


class Everything(Mapping[str, Resource]):
    """Name to resource; those of workloads are made when they are asked for, and some kept."""

    def __init__(self, rest: Mapping[str, Resource], mesh: Mesh) -> None:
        self._rest, self._mesh = rest, mesh
        self._workload: Callable[[str], Resource | None] = mesh.resource

    def __getitem__(self, name: str) -> Resource:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def get(self, name: str, default: Resource | None = None) -> Resource | None:  # type: ignore[override]
        """As of any mapping, without an exception on the way."""
        return self._rest.get(name) or self._workload(name) or default

    def of(self, kinds: tuple[type, ...], *, rows: bool) -> Mapping[str, Resource]:
        """See ``passing``."""
        if Workload not in kinds:
            return self._rest
        found = Everything({} if kinds == (Workload,) else self._rest, self._mesh)
        found._workload = partial(self._mesh.resource, keep=False) if rows else self._mesh.bare
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._rest or name in self._mesh.workloads

    def __iter__(self) -> Iterator[str]:
        # Of a tuple of texts the garbage collector takes one look; of a list, one each time.
        return chain(tuple(self._rest), self._mesh.names())

    def __len__(self) -> int:
        return len(self._rest) + len(self._mesh.workloads)


def passing(
    held: Mapping[str, Resource], *kinds: type, rows: bool = True
) -> Mapping[str, Resource]:
    """What is held of these kinds at least, for who looks at each once: none of them is kept.
    Without ``rows`` every workload's value is the same empty one, for who reads the bytes alone."""
    return held.of(kinds, rows=rows) if isinstance(held, Everything) else held


class MeshClaims(Mapping[str, str]):
    """Name to version of what is claimed: ``own`` of rows, which are ``entries`` of a request, and
    ``count`` workloads."""

    def __init__(
        self, own: Mapping[str, str], mesh: Mesh, count: int, entries: list[bytes]
    ) -> None:
        self.own, self.mesh, self._count = own, mesh, count
        self._entries = entries

    def encoded(self) -> Iterator[bytes | memoryview]:
        """Map entries of a request, piece by piece."""
        if self._entries:
            yield b"".join(self._entries)
        yield from self.mesh.claims_encoded()

    def __getitem__(self, name: str) -> str:
        found = self.own.get(name)
        if found is None:
            resource = self.mesh.resource(name)
            if resource is None:
                raise KeyError(name)
            found = resource.version
        return found

    def __iter__(self) -> Iterator[str]:
        left_out = set(self.mesh.unclaimed())
        return chain(self.own, (name for name in self.mesh.names() if name not in left_out))

    def __len__(self) -> int:
        return len(self.own) + self._count
