"""A mesh on the wire, read back with the generated classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmesh.controlplane.file import load, parse
from kmesh.controlplane.resources import snapshot
from kmesh.core.events import ADDRESS, AUTHORIZATION
from kmesh.wire.gen.istio import security as s
from kmesh.wire.gen.istio import workload as w

EXAMPLES = Path(__file__).parents[2] / "examples"


def _addresses(text: str) -> dict[str, w.Address]:
    state = snapshot(parse(text.encode(), "m"))[ADDRESS]
    return {name: w.Address.parse(entry.raw) for name, entry in state.items()}


def test_a_workload() -> None:
    text = """\
workloads:
- {uid: u, name: a, namespace: n, workloadIps: [10.0.0.1, "fd00::1"], protocol: HBONE,
   networkMode: HostNetwork, status: Unhealthy, capacity: 0, workloadType: job, node: x,
   locality: {region: r, zone: z}, waypoint: {destination: n/w.n}, network: net,
   networkGateway: {destination: net2/10.9.9.9, hboneMtlsPort: 1}, authorizationPolicies: [n/p],
   services: {n/s.n: {80: 8080, 81: 0}}, applicationTunnel: {protocol: PROXY, port: 3}}
"""
    one = _addresses(text)["u"].workload
    assert one is not None
    assert one.addresses == [bytes((10, 0, 0, 1)), bytes.fromhex("fd" + "00" * 14 + "01")]
    assert one.tunnel_protocol is w.TunnelProtocol.HBONE
    assert one.network_mode is w.NetworkMode.HOST_NETWORK
    assert one.status is w.WorkloadStatus.UNHEALTHY
    assert one.workload_type is w.WorkloadType.JOB
    assert one.capacity == 0
    ports = [(port.service_port, port.target_port) for port in one.services["n/s.n"].ports]
    assert ports == [(80, 8080), (81, 0)]
    assert one.waypoint is not None
    assert one.waypoint.hostname is not None
    assert (one.waypoint.hostname.namespace, one.waypoint.hostname.hostname) == ("n", "w.n")
    assert one.network_gateway is not None
    assert one.network_gateway.address is not None
    assert one.network_gateway.address.network == "net2"
    assert one.network_gateway.hbone_mtls_port == 1
    assert one.locality is not None
    assert (one.locality.region, one.locality.zone, one.locality.subzone) == ("r", "z", "")
    assert one.application_tunnel is not None
    assert one.application_tunnel.port == 3


def test_an_absent_capacity_stays_absent() -> None:
    text = "workloads: [{name: a, namespace: n, workloadIps: [], services: {}}]\n"
    one = _addresses(text)["Kubernetes//Pod/n/a"].workload
    assert one is not None
    assert one.capacity is None
    assert one.locality is None


def test_a_service() -> None:
    text = """\
services:
- {name: s, namespace: n, hostname: s.n, vips: [net/10.96.0.1], ports: {80: 8080},
   cidrVips: [/10.97.0.0/16, "/fd00::/64"], ipFamilies: IPv6, visibility: Namespace,
   loadBalancer: {mode: Failover, routingPreferences: [Node, Cluster]}, canonical: true}
- {name: t, namespace: n, hostname: t.n, vips: [], ports: {}}
"""
    both = _addresses(text)
    one, other = both["n/s.n"].service, both["n/t.n"].service
    assert one is not None
    assert other is not None
    vips = [(vip.network, vip.address[:2], vip.length) for vip in one.addresses]
    assert vips == [("net", b"\x0a\x60", None), ("", b"\x0a\x61", 16), ("", b"\xfd\x00", 64)]
    assert one.load_balancing is not None
    assert one.load_balancing.mode is w.LoadBalancingMode.FAILOVER
    assert one.load_balancing.routing_preference == [
        w.LoadBalancingScope.NODE,
        w.LoadBalancingScope.CLUSTER,
    ]
    assert one.ip_families is w.IpFamilies.IPV6_ONLY
    assert one.visibility is w.ServiceVisibility.NAMESPACE
    assert one.canonical
    assert other.load_balancing is None


def test_a_policy_has_no_version() -> None:
    text = """\
policies:
- {name: p, namespace: n, scope: Namespace, action: Deny, dryRun: true, rules: [[[
    {principals: [!Exact a, !Presence ], notSourceIps: [10.0.0.0/8], destinationPorts: [1],
     serviceAccounts: [n/sa]}]]]}
"""
    entry = snapshot(parse(text.encode(), "m"))[AUTHORIZATION]["n/p"]
    assert entry.version == ""
    policy = s.Authorization.parse(entry.raw)
    assert (policy.name, policy.namespace, policy.dry_run) == ("p", "n", True)
    assert (policy.scope, policy.action) == (s.Scope.NAMESPACE, s.Action.DENY)
    (match,) = policy.rules[0].clauses[0].matches
    assert match.principals[0].exact == "a"
    assert match.principals[1].presence is not None
    assert (match.not_source_ips[0].address, match.not_source_ips[0].length) == (b"\n\0\0\0", 8)
    assert match.destination_ports == [1]
    assert match.service_accounts[0].service_account == "sa"


@pytest.mark.parametrize(
    ("services", "same"),
    [
        ("{n/b: {2: 2, 1: 1}, n/a: {}}", True),
        ("{n/a: {}, n/b: {1: 1, 2: 2}}", True),
        ("{n/a: {}, n/b: {1: 1, 2: 3}}", False),
    ],
)
def test_versions_follow_content_and_not_the_order_of_keys(services: str, same: bool) -> None:
    text = "workloads: [{{name: a, namespace: n, workloadIps: [], services: {}}}]\n"
    first = snapshot(parse(text.format("{n/a: {}, n/b: {1: 1, 2: 2}}").encode(), "m"))
    second = snapshot(parse(text.format(services).encode(), "m"))
    assert (first == second) is same
    for entry in second[ADDRESS].values():
        assert len(entry.version) == 16
        assert int(entry.version, 16) >= 0


def test_the_demo_has_an_entry_for_each_object() -> None:
    mesh = load(EXAMPLES / "demo.yaml")
    assert len(snapshot(mesh)[ADDRESS]) == len(mesh.workloads) + len(mesh.services)
