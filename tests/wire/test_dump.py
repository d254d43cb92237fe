"""config_dump objects from raw bytes; as entries of a mesh file they mean the same again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.controlplane import file, resources
from kmesh.core.events import ADDRESS
from kmesh.core.model import Rejected, Resource
from kmesh.wire import convert
from kmesh.wire.dump import dump
from kmesh.wire.fields import FIXED32, FIXED64, LEN, VARINT, fields, gathered
from kmesh.wire.gen.istio import workload as wds
from tests.wire.messages import field
from tests.wire.reading import value

V4, V6 = b"\x0a\x00\x00\x01", b"\xfd" + bytes(14) + b"\x01"
HOST = wds.GatewayAddress(
    hostname=wds.NamespacedHostname(namespace="ns", hostname="way"), hbone_mtls_port=15008
)
IP = wds.GatewayAddress(
    address=wds.NetworkAddress(network="net", address=V4), hbone_mtls_port=15009
)


def shown(message: wds.Address) -> dict[str, Any]:
    return dump(Resource("r", "1", bytes(message), convert.address(message)))


def test_smallest_workload() -> None:
    assert shown(wds.Address(workload=wds.Workload(uid="u"))) == {
        "uid": "u",
        "workloadIps": [],
        "protocol": "TCP",
        "networkMode": "Standard",
        "workloadType": "deployment",
        "status": "Healthy",
        "capacity": 1,
        "services": {},
        "trustDomain": "cluster.local",
        "serviceAccount": "default",
        "clusterId": "Kubernetes",
    }


FULL_WORKLOAD = wds.Address(
    workload=wds.Workload(
        uid="u",
        name="n",
        namespace="ns",
        addresses=[V4, V6],
        hostname="h",
        network="net",
        network_mode=wds.NetworkMode.HOST_NETWORK,
        tunnel_protocol=wds.TunnelProtocol.HBONE,
        application_tunnel=wds.ApplicationTunnel(
            protocol=wds.ApplicationTunnelProtocol.PROXY, port=15088
        ),
        native_tunnel=True,
        trust_domain="td",
        service_account="sa",
        waypoint=HOST,
        network_gateway=IP,
        node="node",
        cluster_id="c",
        locality=wds.Locality(region="r", subzone="s"),
        canonical_name="cn",
        canonical_revision="v1",
        workload_type=wds.WorkloadType.JOB,
        workload_name="wn",
        services={"ns/h": wds.PortList(ports=[wds.Port(service_port=80, target_port=8080)])},
        authorization_policies=["ns/p"],
        status=wds.WorkloadStatus.UNHEALTHY,
        capacity=0,
    )
)


def test_full_workload() -> None:
    assert shown(FULL_WORKLOAD) == {
        "uid": "u",
        "name": "n",
        "namespace": "ns",
        "workloadIps": ["10.0.0.1", "fd00::1"],
        "hostname": "h",
        "network": "net",
        "networkMode": "HostNetwork",
        "protocol": "HBONE",
        "applicationTunnel": {"protocol": "PROXY", "port": 15088},
        "nativeTunnel": True,
        "trustDomain": "td",
        "serviceAccount": "sa",
        "waypoint": {"destination": "ns/way", "hboneMtlsPort": 15008},
        "networkGateway": {"destination": "net/10.0.0.1", "hboneMtlsPort": 15009},
        "node": "node",
        "clusterId": "c",
        "locality": {"region": "r", "subzone": "s"},
        "canonicalName": "cn",
        "canonicalRevision": "v1",
        "workloadType": "job",
        "workloadName": "wn",
        "services": {"ns/h": {"80": 8080}},
        "authorizationPolicies": ["ns/p"],
        "status": "Unhealthy",
        "capacity": 0,
    }


FULL_SERVICE = wds.Address(
    service=wds.Service(
        name="s",
        namespace="ns",
        hostname="h",
        addresses=[
            wds.NetworkAddress(address=V4),
            wds.NetworkAddress(network="net", address=V6, length=128),
            wds.NetworkAddress(address=V4, length=8),
        ],
        ports=[wds.Port(service_port=80, target_port=8080), wds.Port(service_port=81)],
        subject_alt_names=["spiffe://x"],
        waypoint=IP,
        load_balancing=wds.LoadBalancing(
            routing_preference=[wds.LoadBalancingScope.REGION, wds.LoadBalancingScope.NETWORK],
            mode=wds.LoadBalancingMode.STRICT,
            health_policy=wds.LoadBalancingHealthPolicy.ALLOW_ALL,
        ),
        ip_families=wds.IpFamilies.IPV6_ONLY,
        canonical=True,
        weighted_waypoints=[wds.WeightedWaypoint(destination=HOST, weight=3)],
        visibility=wds.ServiceVisibility.NAMESPACE,
    )
)


def test_full_service() -> None:
    assert shown(FULL_SERVICE) == {
        "name": "s",
        "namespace": "ns",
        "hostname": "h",
        "vips": ["/10.0.0.1", "net/fd00::1"],
        "cidrVips": ["/10.0.0.1/8"],
        "ports": {"80": 8080, "81": 0},
        "subjectAltNames": ["spiffe://x"],
        "waypoint": {"destination": "net/10.0.0.1", "hboneMtlsPort": 15009},
        "loadBalancer": {
            "routingPreferences": ["Region", "Network"],
            "mode": "Strict",
            "healthPolicy": "AllowAll",
        },
        "ipFamilies": "IPv6",
        "canonical": True,
        "weightedWaypoints": [{"destination": "ns/way", "hboneMtlsPort": 15008, "weight": 3}],
        "visibility": "Namespace",
    }


def test_the_member_in_force_is_shown_and_its_pieces_merged() -> None:
    service = wds.Address(service=wds.Service(namespace="n", hostname="h"))
    raw = field(1, b"\xa2\x01\x01x") + bytes(service) + field(2, b"\x0a\x01s")
    got = dump(Resource("r", "1", raw, convert.address(service)))
    assert got == {"name": "s", "namespace": "n", "hostname": "h", "vips": [], "ports": {}}


def test_a_rejected_resource_has_no_object() -> None:
    with pytest.raises(ValueError, match="r: neither"):
        dump(Resource("r", "1", b"", Rejected("r", "why")))


def test_objects_are_entries_of_a_mesh_file() -> None:
    mesh = {"workloads": [shown(FULL_WORKLOAD)], "services": [shown(FULL_SERVICE)], "policies": []}
    parsed = file.parse(json.dumps(mesh).encode(), "dump")
    entries = resources.snapshot(parsed)[ADDRESS]
    rows = {name: value(one.raw) for name, one in entries.items()}
    workload, service = convert.address(FULL_WORKLOAD), convert.address(FULL_SERVICE)
    assert rows == {"u": workload, "ns/h": service}


parts = st.one_of(
    st.tuples(st.just(VARINT), st.integers(0, 2**64 - 1)),
    st.tuples(st.just(LEN), st.binary(max_size=200)),
    st.tuples(st.just(FIXED32), st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(FIXED64), st.binary(min_size=8, max_size=8)),
)


def varint(value: int) -> bytes:
    more = value >> 7
    return bytes([value & 127 | 128]) + varint(more) if more else bytes([value])


@given(st.lists(st.tuples(st.sampled_from((1, 2, 15, 16, 27, 2047, 2048, 70_000)), parts)))
def test_what_is_read_at_once_is_what_is_read_one_by_one(
    message: list[tuple[int, tuple[int, Any]]],
) -> None:
    raw = b""
    for tag, (kind, what) in message:
        size = varint(len(what)) if kind == LEN else b""
        raw += varint(tag << 3 | kind) + size + (varint(what) if kind == VARINT else what)
    numbers: dict[int, int] = {}
    bodies: dict[int, list[bytes]] = {}
    for each in fields(raw):
        if each.kind == VARINT:
            numbers[each.tag] = each.number
        else:
            bodies.setdefault(each.tag, []).append(each.body)
    assert gathered(raw) == (numbers, bodies)
