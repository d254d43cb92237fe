"""A mesh as the resources that istiod would send: names, versions, encoded messages."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from kmesh.controlplane.state import Entry, Snapshot
from kmesh.core import addr
from kmesh.core.events import ADDRESS, AUTHORIZATION
from kmesh.wire.gen.google.protobuf import Empty
from kmesh.wire.gen.istio import security as s
from kmesh.wire.gen.istio import workload as w

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kmesh.controlplane.mesh import Mesh, MeshService, MeshWorkload
    from kmesh.core.model import Authorization, Gateway, Match, Port, StringMatch, Vip


def snapshot(mesh: Mesh) -> dict[str, Snapshot]:
    """{type URL: {name: entry}}. Workloads are named by uid, services and policies by key."""
    addresses: Snapshot = {}
    for workload in mesh.workloads:
        addresses[workload.uid] = _versioned(bytes(w.Address(workload=_workload(workload))))
    for service in mesh.services:
        addresses[service.key] = _versioned(bytes(w.Address(service=_service(service))))
    policies = {policy.key: Entry("", bytes(_policy(policy))) for policy in mesh.policies}
    return {ADDRESS: addresses, AUTHORIZATION: policies}


def version(raw: bytes) -> str:
    """16 hex digits of a content hash; equal in every process that encodes alike."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def _versioned(raw: bytes) -> Entry:
    return Entry(version(raw), raw)


def _wire(address: bytes) -> bytes:
    return address[12:] if addr.is_ipv4(address) else address


def _prefix(address: bytes, plen: int) -> int:
    return plen - 96 if addr.is_ipv4(address) else plen


def _ports(ports: Iterable[Port]) -> list[w.Port]:
    return [w.Port(service_port=port.service, target_port=port.target) for port in ports]


def _gateway(gateway: Gateway | None) -> w.GatewayAddress | None:
    if gateway is None:
        return None
    if gateway.hostname:
        namespace, _, hostname = gateway.hostname.partition("/")
        return w.GatewayAddress(
            hostname=w.NamespacedHostname(namespace=namespace, hostname=hostname),
            hbone_mtls_port=gateway.hbone_port,
        )
    return w.GatewayAddress(
        address=w.NetworkAddress(network=gateway.network, address=_wire(gateway.addr)),
        hbone_mtls_port=gateway.hbone_port,
    )


def _workload(one: MeshWorkload) -> w.Workload:
    tunnel, locality = one.application_tunnel, one.locality
    return w.Workload(
        uid=one.uid,
        name=one.name,
        namespace=one.namespace,
        addresses=[_wire(address) for address in one.addresses],
        hostname=one.hostname,
        network=one.network,
        network_mode=w.NetworkMode(int(one.host_network)),
        tunnel_protocol=w.TunnelProtocol(int(one.hbone)),
        application_tunnel=tunnel
        and w.ApplicationTunnel(
            protocol=w.ApplicationTunnelProtocol(int(tunnel[0])), port=tunnel[1]
        ),
        native_tunnel=one.native_tunnel,
        trust_domain=one.trust_domain,
        service_account=one.service_account,
        waypoint=_gateway(one.waypoint),
        network_gateway=_gateway(one.network_gateway),
        node=one.node,
        cluster_id=one.cluster,
        locality=locality and w.Locality(region=locality[0], zone=locality[1], subzone=locality[2]),
        canonical_name=one.canonical_name,
        canonical_revision=one.canonical_revision,
        workload_type=w.WorkloadType[one.workload_type.upper()],
        workload_name=one.workload_name,
        services={
            member.service: w.PortList(ports=_ports(member.ports)) for member in one.memberships
        },
        authorization_policies=list(one.policies),
        status=w.WorkloadStatus(int(not one.healthy)),
        capacity=one.capacity,
    )


def _vip(vip: Vip) -> w.NetworkAddress:
    return w.NetworkAddress(
        network=vip.network,
        address=_wire(vip.addr),
        length=None if vip.plen == 128 else _prefix(vip.addr, vip.plen),
    )


def _balancing(one: MeshService) -> w.LoadBalancing | None:
    if not (one.mode or one.preference or one.allow_unhealthy):
        return None
    return w.LoadBalancing(
        routing_preference=[w.LoadBalancingScope(int(scope)) for scope in one.preference],
        mode=w.LoadBalancingMode(int(one.mode)),
        health_policy=w.LoadBalancingHealthPolicy(int(one.allow_unhealthy)),
    )


def _service(one: MeshService) -> w.Service:
    return w.Service(
        name=one.name,
        namespace=one.namespace,
        hostname=one.hostname,
        addresses=[_vip(vip) for vip in one.vips],
        ports=_ports(one.ports),
        subject_alt_names=list(one.subject_alt_names),
        waypoint=_gateway(one.waypoint),
        load_balancing=_balancing(one),
        ip_families=w.IpFamilies(int(one.families)),
        canonical=one.canonical,
        weighted_waypoints=[
            w.WeightedWaypoint(destination=_gateway(gateway), weight=weight)
            for gateway, weight in one.weighted_waypoints
        ],
        visibility=w.ServiceVisibility(int(one.visibility)),
    )


def _policy(one: Authorization) -> s.Authorization:
    return s.Authorization(
        name=one.key.removeprefix(f"{one.namespace}/"),
        namespace=one.namespace,
        scope=s.Scope(int(one.scope)),
        action=s.Action(int(one.action)),
        rules=[
            s.Rule(
                clauses=[s.Clause(matches=[_match(match) for match in clause]) for clause in rule]
            )
            for rule in one.rules
        ],
        dry_run=one.dry_run,
    )


def _match(one: Match) -> s.Match:
    return s.Match(
        namespaces=_strings(one.namespaces),
        not_namespaces=_strings(one.not_namespaces),
        principals=_strings(one.principals),
        not_principals=_strings(one.not_principals),
        source_ips=_cidrs(one.source_ips),
        not_source_ips=_cidrs(one.not_source_ips),
        destination_ips=_cidrs(one.destination_ips),
        not_destination_ips=_cidrs(one.not_destination_ips),
        destination_ports=list(one.destination_ports),
        not_destination_ports=list(one.not_destination_ports),
        service_accounts=_accounts(one.service_accounts),
        not_service_accounts=_accounts(one.not_service_accounts),
    )


def _strings(matches: Iterable[StringMatch]) -> list[s.StringMatch]:
    return [_string(match) for match in matches]


def _string(match: StringMatch) -> s.StringMatch:
    if match.kind == "exact":
        return s.StringMatch(exact=match.value)
    if match.kind == "prefix":
        return s.StringMatch(prefix=match.value)
    if match.kind == "suffix":
        return s.StringMatch(suffix=match.value)
    return s.StringMatch(presence=Empty())


def _cidrs(cidrs: Iterable[tuple[bytes, int]]) -> list[s.Address]:
    return [s.Address(address=_wire(base), length=_prefix(base, plen)) for base, plen in cidrs]


def _accounts(accounts: Iterable[tuple[str, str]]) -> list[s.ServiceAccountMatch]:
    return [
        s.ServiceAccountMatch(namespace=namespace, service_account=name)
        for namespace, name in accounts
    ]
