"""Hypothesis strategies for control plane messages: mostly good, now and then bad."""

from __future__ import annotations

from typing import Any, TypeVar

from hypothesis import strategies as st

from kmesh.wire.gen.envoy.service.discovery import v3 as discovery
from kmesh.wire.gen.google.protobuf import Any as ProtoAny
from kmesh.wire.gen.istio import workload as wds

T = TypeVar("T")
ADDRESS = "type.googleapis.com/istio.workload.Address"

words = st.one_of(st.sampled_from(["", "a", "b-1", "ns", "node-1", "é", "\U0001f600"]), st.text())


def seldom(usual: st.SearchStrategy[T], odd: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """One of forty values is odd, so that most whole messages are good."""
    return st.integers(0, 39).flatmap(lambda dice: odd if dice == 17 else usual)


def _enum(kind: Any) -> st.SearchStrategy[Any]:
    return seldom(
        st.sampled_from([kind(int(member)) for member in kind]),
        st.sampled_from([len(list(kind)), 99, 2**31 - 1]).map(kind),
    )


addresses = seldom(
    st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
    st.one_of(st.binary(max_size=20), st.just(bytes(10) + b"\xff\xff\x0a\x00\x00\x01")),
)
port_numbers = seldom(st.integers(0, 65535), st.integers(65536, 2**32 - 1))
ports = st.builds(
    wds.Port,
    service_port=port_numbers,
    target_port=port_numbers,
    app_protocol=_enum(wds.AppProtocol),
)
network_addresses = st.builds(
    wds.NetworkAddress,
    network=words,
    address=addresses,
    length=st.one_of(st.none(), seldom(st.integers(0, 32), st.integers(33, 2**32 - 1))),
)
hostnames = st.builds(wds.NamespacedHostname, namespace=words, hostname=words)
gateways = seldom(
    st.one_of(
        st.builds(wds.GatewayAddress, hostname=hostnames, hbone_mtls_port=port_numbers),
        st.builds(wds.GatewayAddress, address=network_addresses, hbone_mtls_port=port_numbers),
    ),
    st.just(wds.GatewayAddress(hbone_mtls_port=15008)),
)
extensions = st.builds(
    wds.Extension,
    name=words,
    config=st.one_of(
        st.none(), st.builds(lambda t, v: ProtoAny(type_url=t, value=v), words, st.binary())
    ),
)
service_keys = seldom(st.builds("{}/{}".format, words, words), words)
workloads = st.builds(
    wds.Workload,
    uid=seldom(st.builds("Kubernetes//Pod/{}/{}".format, words, words), words),
    name=words,
    namespace=words,
    addresses=st.lists(addresses, max_size=3),
    hostname=words,
    network=words,
    network_mode=_enum(wds.NetworkMode),
    tunnel_protocol=seldom(
        st.sampled_from([wds.TunnelProtocol.NONE, wds.TunnelProtocol.HBONE]),
        st.sampled_from([wds.TunnelProtocol.LEGACY_ISTIO_MTLS, wds.TunnelProtocol(7)]),
    ),
    application_tunnel=st.one_of(
        st.none(),
        st.builds(
            wds.ApplicationTunnel, protocol=_enum(wds.ApplicationTunnelProtocol), port=port_numbers
        ),
    ),
    native_tunnel=st.booleans(),
    trust_domain=words,
    service_account=words,
    waypoint=st.one_of(st.none(), gateways),
    network_gateway=st.one_of(st.none(), gateways),
    node=words,
    cluster_id=words,
    locality=st.one_of(st.none(), st.builds(wds.Locality, region=words, zone=words, subzone=words)),
    canonical_name=words,
    canonical_revision=words,
    workload_type=_enum(wds.WorkloadType),
    workload_name=words,
    services=st.dictionaries(
        service_keys, st.builds(wds.PortList, ports=st.lists(ports, max_size=3)), max_size=3
    ),
    authorization_policies=st.lists(words, max_size=3),
    status=_enum(wds.WorkloadStatus),
    capacity=st.one_of(st.none(), st.integers(0, 2**32 - 1)),
    extensions=st.lists(extensions, max_size=1),
)
services = st.builds(
    wds.Service,
    name=words,
    namespace=words,
    hostname=words,
    addresses=st.lists(network_addresses, max_size=3),
    ports=st.lists(ports, max_size=3),
    subject_alt_names=st.lists(words, max_size=2),
    waypoint=st.one_of(st.none(), gateways),
    load_balancing=st.one_of(
        st.none(),
        st.builds(
            wds.LoadBalancing,
            routing_preference=st.lists(_enum(wds.LoadBalancingScope), max_size=4),
            mode=_enum(wds.LoadBalancingMode),
            health_policy=_enum(wds.LoadBalancingHealthPolicy),
        ),
    ),
    ip_families=_enum(wds.IpFamilies),
    extensions=st.lists(extensions, max_size=1),
    canonical=st.booleans(),
    ingress_use_waypoint=st.booleans(),
    weighted_waypoints=st.lists(
        st.builds(
            wds.WeightedWaypoint,
            destination=st.one_of(st.none(), gateways),
            weight=st.integers(0, 2**32 - 1),
        ),
        max_size=2,
    ),
    visibility=st.sampled_from([wds.ServiceVisibility(n) for n in (0, 1, 2, 77)]),
)
mesh_addresses = seldom(
    st.one_of(
        st.builds(lambda one: wds.Address(workload=one), workloads),
        st.builds(lambda one: wds.Address(service=one), services),
    ),
    st.just(wds.Address()),
)


def entry(raw: bytes, name: str = "r", version: str = "1", url: str = ADDRESS) -> bytes:
    """An encoded discovery Resource around an encoded message."""
    wrapped = ProtoAny(type_url=url, value=raw)
    return bytes(discovery.Resource(name=name, version=version, resource=wrapped))


def field(tag: int, body: bytes) -> bytes:
    """A length-delimited field below number 16."""
    size = bytearray()
    rest = len(body)
    while rest > 127:
        size.append(rest & 127 | 128)
        rest >>= 7
    return bytes([tag << 3 | 2, *size, rest]) + body


def response(entries: list[bytes], nonce: str = "n", url: str = ADDRESS) -> bytes:
    """An encoded DeltaDiscoveryResponse, the type URL last as istiod sends it."""
    tail = field(4, url.encode()) + field(5, nonce.encode())
    return b"".join(field(2, one) for one in entries) + tail
