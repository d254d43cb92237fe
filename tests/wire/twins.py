"""The compact roster and the plain one, fed alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.core.addr import is_ipv4
from kmesh.core.model import Service, Trait, Workload
from kmesh.core.store import Store
from kmesh.wire.discovery import Decoder, ResponseReader
from kmesh.wire.gen.istio import workload as wds
from kmesh.wire.mesh import Mesh
from kmesh.wire.parts import Parts
from tests.core.meshes import HOME
from tests.wire.messages import entry, response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kmesh.core.model import Resource
    from kmesh.core.store import Frontend


def encoded(row: Workload, name: str = "") -> bytes:
    """An Address that is decoded to this row; ``name`` is what only the bytes say."""
    place, traits = row.profile, Trait(row.traits)
    members = {
        member.service: wds.PortList(
            ports=[wds.Port(service_port=p.service, target_port=p.target) for p in member.ports]
        )
        for member in row.memberships
    }
    one = wds.Workload(
        uid=row.uid,
        name=name,
        namespace=row.identity.namespace,
        service_account=row.identity.service_account,
        addresses=[raw[12:] if is_ipv4(raw) else raw for raw in row.addresses],
        network=place.network,
        cluster_id=place.cluster,
        node=place.node,
        locality=wds.Locality(region=place.region, zone=place.zone, subzone=place.subzone),
        services=members,
        capacity=row.capacity,
        status=wds.WorkloadStatus(int(Trait.HEALTHY not in traits)),
        network_mode=wds.NetworkMode(int(Trait.HOST_NETWORK in traits)),
        tunnel_protocol=wds.TunnelProtocol(int(Trait.HBONE in traits)),
    )
    return bytes(wds.Address(workload=one))


def scanned(mesh: Mesh, entries: Iterable[bytes]) -> list[Resource]:
    """One response; what is left of it for others than the mesh."""
    return ResponseReader(Decoder(mesh)).feed(response(list(entries)))


Change = tuple[str, Workload | Service | None]


class Twins:
    """Two stores, one over each roster."""

    def __init__(self) -> None:
        self.mesh = Mesh(Parts(), HOME.node, HOME.cluster)
        self.compact = Store(HOME.network, HOME.cluster, HOME.node, self.mesh)
        self.plain = Store(HOME.network, HOME.cluster, HOME.node)

    def apply(self, changes: list[Change]) -> tuple[dict[Frontend, None], dict[Frontend, None]]:
        """The frontends that each calls dirty: (compact, plain)."""
        rest: list[Change] = []
        for name, value in changes:
            if isinstance(value, Workload):
                assert scanned(self.mesh, [entry(encoded(value), name)]) == []
                continue
            if value is None:
                self.mesh.remove(name)
            rest.append((name, value))
        return self.compact.apply(rest), self.plain.apply(changes)
