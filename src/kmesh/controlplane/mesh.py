"""A mesh file's content as plain values; addresses are 16 bytes, keys ``<namespace>/<name>``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.model import Families, Mode, Visibility

if TYPE_CHECKING:
    from kmesh.core.model import Authorization, Gateway, Membership, Port, Scope, Vip


class MeshWorkload(NamedTuple):
    """One entry of ``workloads``; empty strings are left out on the wire."""

    uid: str
    name: str
    namespace: str
    addresses: tuple[bytes, ...]
    memberships: tuple[Membership, ...]
    network: str = ""
    node: str = ""
    cluster: str = ""
    trust_domain: str = ""
    service_account: str = ""
    hostname: str = ""
    workload_name: str = ""
    workload_type: str = "deployment"
    canonical_name: str = ""
    canonical_revision: str = ""
    hbone: bool = False
    native_tunnel: bool = False
    host_network: bool = False
    healthy: bool = True
    capacity: int | None = None
    locality: tuple[str, str, str] | None = None
    policies: tuple[str, ...] = ()
    waypoint: Gateway | None = None
    network_gateway: Gateway | None = None
    application_tunnel: tuple[bool, int] | None = None  # (PROXY protocol, port or 0)


class MeshService(NamedTuple):
    """One entry of ``services``; ``vips`` holds the exact ones first, then the CIDRs."""

    name: str
    namespace: str
    hostname: str
    vips: tuple[Vip, ...]
    ports: tuple[Port, ...]
    mode: Mode = Mode.UNSPECIFIED
    preference: tuple[Scope, ...] = ()
    allow_unhealthy: bool = False
    families: Families = Families.AUTOMATIC
    canonical: bool = False
    visibility: Visibility = Visibility.PUBLIC
    waypoint: Gateway | None = None
    weighted_waypoints: tuple[tuple[Gateway, int], ...] = ()
    subject_alt_names: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """``<namespace>/<hostname>``."""
        return f"{self.namespace}/{self.hostname}"


class Mesh(NamedTuple):
    """A whole file; uids, service keys and policy keys are unique."""

    workloads: tuple[MeshWorkload, ...] = ()
    services: tuple[MeshService, ...] = ()
    policies: tuple[Authorization, ...] = ()

    def loose_ends(self) -> list[str]:
        """References to things the file does not have: legal, and usually a slip."""
        services = {service.key for service in self.services}
        policies = {policy.key for policy in self.policies}
        found = []
        for workload in self.workloads:
            unknown = [m.service for m in workload.memberships if m.service not in services]
            found += [f"workload {workload.uid}: no service {key}" for key in unknown]
            absent = [key for key in workload.policies if key not in policies]
            found += [f"workload {workload.uid}: no policy {key}" for key in absent]
        return found
