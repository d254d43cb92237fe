"""Generated classes to model rows, plainly: what the C scanner must agree with.

For the cold path (one object at a time: about 0.5 ms) and for tests. Every function raises
ValueError when the message cannot be used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from kmesh.core import addr
from kmesh.core.model import (
    Families,
    Gateway,
    Identity,
    Membership,
    Mode,
    Port,
    Profile,
    Scope,
    Service,
    Trait,
    Vip,
    Visibility,
    Workload,
)
from kmesh.wire.dump import dump
from kmesh.wire.gen.istio import workload as wds

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import IntEnum

__all__ = ["address", "dump", "service", "workload"]

Enum = TypeVar("Enum", bound="IntEnum")


def address(message: wds.Address) -> Workload | Service:
    """Whichever member is set."""
    if message.workload is not None:
        return workload(message.workload)
    if message.service is not None:
        return service(message.service)
    raise ValueError("neither a workload nor a service")


def workload(message: wds.Workload) -> Workload:
    """One workload with the defaults of the contract."""
    if not message.uid:
        raise ValueError("the workload has no uid")
    _known(wds.WorkloadType, message.workload_type)
    tunnel = message.application_tunnel
    if tunnel is not None:
        _known(wds.ApplicationTunnelProtocol, tunnel.protocol)
    return Workload(
        uid=message.uid,
        identity=Identity(
            message.trust_domain or "cluster.local",
            message.namespace,
            message.service_account or "default",
        ),
        profile=_profile(message),
        addresses=tuple(addr.from_wire(raw) for raw in message.addresses),
        memberships=tuple(
            _membership(key, ports.ports) for key, ports in sorted(message.services.items())
        ),
        policies=tuple(message.authorization_policies),
        traits=_traits(message),
        capacity=1 if message.capacity is None else message.capacity,
        tunnel_port=0 if tunnel is None else _port_number(tunnel.port),
        waypoint=_gateway(message.waypoint),
        network_gateway=_gateway(message.network_gateway),
    )


def service(message: wds.Service) -> Service:
    """One service."""
    for weighted in message.weighted_waypoints:
        _gateway(weighted.destination)
    balancing = message.load_balancing or wds.LoadBalancing()
    health = _known(wds.LoadBalancingHealthPolicy, balancing.health_policy)
    narrow = message.visibility == wds.ServiceVisibility.NAMESPACE
    return Service(
        key=f"{message.namespace}/{message.hostname}",
        namespace=message.namespace,
        hostname=message.hostname,
        vips=tuple(_vip(one) for one in message.addresses),
        ports=_ports(message.ports),
        mode=Mode(int(balancing.mode)),
        preference=tuple(Scope(int(scope)) for scope in balancing.routing_preference),
        allow_unhealthy=health == wds.LoadBalancingHealthPolicy.ALLOW_ALL,
        families=Families(int(message.ip_families)),
        canonical=message.canonical,
        visibility=Visibility.NAMESPACE if narrow else Visibility.PUBLIC,
        waypoint=_gateway(message.waypoint),
    )


def _known(kind: type[Enum], value: Enum) -> Enum:
    if int(value) not in {int(member) for member in kind}:
        raise ValueError(f"{kind.__name__} {int(value)} is unknown")
    return value


def _profile(message: wds.Workload) -> Profile:
    locality = message.locality or wds.Locality()
    return Profile(
        network=message.network,
        cluster=message.cluster_id or "Kubernetes",
        node=message.node,
        region=locality.region,
        zone=locality.zone,
        subzone=locality.subzone,
    )


def _traits(message: wds.Workload) -> int:
    if message.tunnel_protocol == wds.TunnelProtocol.LEGACY_ISTIO_MTLS:
        raise ValueError("tunnel protocol LEGACY_ISTIO_MTLS is not supported")
    protocol = _known(wds.TunnelProtocol, message.tunnel_protocol)
    status = _known(wds.WorkloadStatus, message.status)
    mode = _known(wds.NetworkMode, message.network_mode)
    facts = {
        Trait.HEALTHY: status == wds.WorkloadStatus.HEALTHY,
        Trait.HOST_NETWORK: mode == wds.NetworkMode.HOST_NETWORK,
        Trait.HBONE: protocol == wds.TunnelProtocol.HBONE,
        Trait.NATIVE_TUNNEL: message.native_tunnel,
        Trait.POD: "//Pod/" in message.uid,
        Trait.HAS_HOSTNAME: bool(message.hostname),
    }
    return sum(int(trait) for trait, true in facts.items() if true)


def _membership(key: str, ports: Iterable[wds.Port]) -> Membership:
    if "/" not in key:
        raise ValueError(f"services key {key!r} is not <namespace>/<hostname>")
    return Membership(key, _ports(ports))


def _ports(ports: Iterable[wds.Port]) -> tuple[Port, ...]:
    rows = []
    for port in ports:
        _known(wds.AppProtocol, port.app_protocol)
        rows.append(Port(_port_number(port.service_port), _port_number(port.target_port)))
    return tuple(rows)


def _port_number(port: int) -> int:
    if port > 65535:
        raise ValueError(f"port {port} is greater than 65535")
    return port


def _gateway(message: wds.GatewayAddress | None) -> Gateway | None:
    if message is None:
        return None
    port = _port_number(message.hbone_mtls_port)
    if message.hostname is not None:
        name = message.hostname
        return Gateway(hostname=f"{name.namespace}/{name.hostname}", hbone_port=port)
    if message.address is not None:
        where = message.address
        return Gateway(network=where.network, addr=addr.from_wire(where.address), hbone_port=port)
    raise ValueError("a gateway has no destination")


def _vip(message: wds.NetworkAddress) -> Vip:
    base, size = addr.from_wire(message.address), 8 * len(message.address)
    length = size if message.length is None else message.length
    if length > size:
        raise ValueError(f"prefix length /{length} is longer than the address")
    plen = 128 - size + length
    mask = ((1 << plen) - 1) << (128 - plen)
    return Vip(message.network, (int.from_bytes(base, "big") & mask).to_bytes(16, "big"), plen)
