"""Mesh file to wire to the agent's own decoder, and from its dump to a mesh file again."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from kmesh.controlplane import envelope
from kmesh.controlplane.file import load, parse
from kmesh.controlplane.resources import snapshot
from kmesh.core.events import ADDRESS, AUTHORIZATION
from kmesh.core.model import Rejected, Service
from kmesh.wire import authorization
from kmesh.wire.discovery import Decoder, ResponseReader
from kmesh.wire.dump import dump

FULL = """\
workloads:
- {uid: w1, name: a, namespace: n, workloadIps: [10.0.0.1, "fd00::1"], network: net, node: node1,
   clusterId: c1, trustDomain: td, serviceAccount: sa, workloadType: pod, workloadName: wn,
   protocol: HBONE, networkMode: HostNetwork, status: Unhealthy, capacity: 7, hostname: h,
   canonicalName: cn, canonicalRevision: cr, nativeTunnel: true,
   locality: {region: r, zone: z, subzone: s}, authorizationPolicies: [n/p],
   waypoint: {destination: n/way.n, hboneMtlsPort: 15009},
   networkGateway: {destination: net2/10.9.9.9, hboneMtlsPort: 15008},
   applicationTunnel: {protocol: PROXY, port: 7},
   services: {n/b.n: {443: 8443, 80: 8080}, n/a.n: {53: 0}}}
- {uid: w2, name: b, namespace: n, workloadIps: [10.0.0.2], capacity: 0, trustDomain: td,
   serviceAccount: sa, clusterId: c1, services: {}}
services:
- {name: s, namespace: n, hostname: s.n, vips: [/10.96.0.1, "net/fd00::1"],
   cidrVips: [/10.97.0.0/16], ports: {443: 0, 80: 8080}, canonical: true, ipFamilies: IPv6,
   loadBalancer: {mode: Failover, routingPreferences: [Network, Node], healthPolicy: AllowAll},
   visibility: Namespace, subjectAltNames: [spiffe://x],
   waypoint: {destination: n/way.n, hboneMtlsPort: 15008},
   weightedWaypoints: [{destination: n/w.n, hboneMtlsPort: 15008, weight: 3}]}
- {name: t, namespace: n, hostname: t.n, vips: [], ports: {}}
policies:
- {name: p, namespace: n, scope: WorkloadSelector, action: Deny, dryRun: true, rules: [[[
    {namespaces: [!Exact a], notPrincipals: [!Prefix b, !Suffix c], sourceIps: [10.0.0.0/8],
     notDestinationIps: ["fd00::/16"], destinationPorts: [80], serviceAccounts: [n/sa]}, {}],
    [{principals: [{presence: {}}]}]]]}
"""


@pytest.mark.parametrize("name", ["full", "demo"])
def test_the_agent_reads_what_was_written_and_dumps_what_can_be_read(name: str) -> None:
    demo = Path(__file__).parents[2] / "examples" / "demo.yaml"
    mesh = parse(FULL.encode(), "full") if name == "full" else load(demo)
    state = snapshot(mesh)[ADDRESS]
    items = (envelope.Item(key, *entry) for key, entry in state.items())
    reader = ResponseReader(Decoder())
    resources = reader.feed(envelope.response(ADDRESS, "7", items, ["gone"]))
    end = reader.finish()
    assert (end.type_url, end.nonce, end.removed) == (ADDRESS, "7", ("gone",))
    assert [one.value for one in resources if isinstance(one.value, Rejected)] == []
    assert {one.name: (one.version, one.raw) for one in resources} == state
    shown: dict[str, list[object]] = {"workloads": [], "services": []}
    for one in resources:
        kind = "services" if isinstance(one.value, Service) else "workloads"
        shown[kind].append(dump(one))
    data = orjson.dumps(shown, option=orjson.OPT_NON_STR_KEYS)
    again = snapshot(parse(data, "dump"))[ADDRESS]
    if name == "full":
        assert again == state
    else:  # the dump fills in what the wire leaves to defaults, so only the names must agree
        assert again.keys() == state.keys()


def test_policies_arrive_as_they_were_read() -> None:
    mesh = parse(FULL.encode(), "full")
    entry = snapshot(mesh)[AUTHORIZATION]["n/p"]
    assert authorization.decode(entry.raw) == mesh.policies[0]
