"""The mesh file: what is read, and that every error names file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmesh.controlplane.file import load, parse
from kmesh.core import addr
from kmesh.core.model import Families, Gateway, Membership, Mode, Port, Scope, Vip, Visibility
from kmesh.errors import MeshFileError

EXAMPLES = Path(__file__).parents[2] / "examples"

WORKLOAD = """\
workloads:
  - name: a
    namespace: n
    workloadIps: [10.0.0.1]
    services: {}
"""
SERVICE = """\
services:
  - name: s
    namespace: n
    hostname: s.n
    vips: [/10.96.0.1]
    ports: {80: 8080}
"""


def test_a_full_workload() -> None:
    text = """\
workloads:
- uid: w1
  name: a
  namespace: n
  workloadIps: ["10.0.0.1", "fd00::1"]
  network: net1
  node: node1
  clusterId: c1
  trustDomain: td
  serviceAccount: sa
  workloadType: pod
  protocol: HBONE
  networkMode: HostNetwork
  status: Unhealthy
  capacity: 0
  locality: {region: r, zone: z, subzone: s}
  authorizationPolicies: [n/p]
  waypoint: {destination: n/way.n, hboneMtlsPort: 15009}
  networkGateway: {destination: net2/10.9.9.9}
  applicationTunnel: {protocol: PROXY, port: 7}
  hostname: null
  services: {n/b.n: {443: 8443, "80": 8080}, n/a.n: {53: 0}}
"""
    (one,) = parse(text.encode(), "m").workloads
    assert one.addresses == (addr.parse("10.0.0.1"), addr.parse("fd00::1"))
    assert one.memberships == (
        Membership("n/a.n", (Port(53, 0),)),
        Membership("n/b.n", (Port(80, 8080), Port(443, 8443))),
    )
    assert (one.uid, one.network, one.node, one.cluster) == ("w1", "net1", "node1", "c1")
    assert (one.hbone, one.host_network, one.healthy, one.capacity) == (True, True, False, 0)
    assert one.locality == ("r", "z", "s")
    assert one.waypoint == Gateway(hostname="n/way.n", hbone_port=15009)
    assert one.network_gateway == Gateway(
        network="net2", addr=addr.parse("10.9.9.9"), hbone_port=15008
    )
    assert one.application_tunnel == (True, 7)
    assert one.policies == ("n/p",)


def test_a_full_service() -> None:
    text = """\
services:
- name: s
  namespace: n
  hostname: s.n
  vips: [/10.96.0.1, "net/fd00::1"]
  cidrVips: [/10.97.3.4/16, /fd00:5::/32]
  ports: {443: 0, 80: 8080}
  loadBalancer: {mode: Strict, routingPreferences: [Network, Subzone], healthPolicy: AllowAll}
  ipFamilies: Dual
  canonical: true
  visibility: Namespace
  weightedWaypoints: [{destination: n/w.n, weight: 3}]
  subjectAltNames: [spiffe://x]
  endpoints: {}
"""
    (one,) = parse(text.encode(), "m").services
    base, plen = addr.network(addr.parse("10.97.0.0"), 16)
    assert one.vips == (
        Vip("", addr.parse("10.96.0.1")),
        Vip("net", addr.parse("fd00::1")),
        Vip("", base, plen),
        Vip("", addr.parse("fd00:5::"), 32),
    )
    assert one.ports == (Port(80, 8080), Port(443, 0))
    assert (one.mode, one.preference) == (Mode.STRICT, (Scope.NETWORK, Scope.SUBZONE))
    assert one.allow_unhealthy
    assert one.canonical
    assert (one.families, one.visibility) == (Families.DUAL, Visibility.NAMESPACE)
    assert one.weighted_waypoints == ((Gateway(hostname="n/w.n", hbone_port=15008), 3),)
    assert one.key == "n/s.n"


def test_defaults_and_the_uid_that_istiod_would_give() -> None:
    mesh = parse((WORKLOAD + SERVICE).encode(), "m")
    assert mesh.workloads[0].uid == "Kubernetes//Pod/n/a"
    assert mesh.workloads[0].capacity is None
    assert mesh.services[0].mode == Mode.UNSPECIFIED
    assert mesh.policies == ()


def test_every_example_is_whole() -> None:
    examples = sorted(EXAMPLES.glob("*.yaml"))
    assert examples
    for path in examples:
        mesh = load(path)
        assert mesh.services, path
        assert mesh.loose_ends() == [], path


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("workloads: [\n", 2, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
        ("workload: []\n", 1, "workload: unknown key"),
        ("[]\n", 1, "must be a map"),
        ("workloads: 3\n", 1, "workloads: must be a list"),
        (WORKLOAD + "    colour: red\n", 6, "workloads[0].colour: unknown key"),
        (WORKLOAD + "    name: b\n", 6, "workloads[0].name: the key is there twice"),
        (WORKLOAD + "    capacity: many\n", 6, "workloads[0].capacity: must be a number"),
        (WORKLOAD + "    capacity: -1\n", 6, "workloads[0].capacity: must be a number"),
        (WORKLOAD + "    capacity: 1.5\n", 6, "workloads[0].capacity: must be int or str"),
        (WORKLOAD + "    status: Ill\n", 6, "must be one of Healthy, Unhealthy, not 'Ill'"),
        (WORKLOAD + "    nativeTunnel: 1\n", 6, "nativeTunnel: must be bool, not int"),
        (WORKLOAD + "    node: 7\n", 6, "node: must be str, not int"),
        (WORKLOAD + "    waypoint: {destination: x}\n", 6, "waypoint.destination: must be"),
        (WORKLOAD + "    locality:\n      planet: x\n", 7, "locality.planet: unknown key"),
        (WORKLOAD + "    authorizationPolicies: [x]\n", 6, "authorizationPolicies[0]: must be"),
        (WORKLOAD.replace("10.0.0.1", "10.0.0.256"), 4, "workloads[0].workloadIps[0]"),
        (WORKLOAD.replace("    services: {}\n", ""), 2, "the key 'services' is missing"),
        (WORKLOAD.replace("  - name: a\n", "  -\n"), 3, "'uid' and 'name'"),
        (WORKLOAD.replace("{}", "{plain: {}}"), 5, "must be <namespace>/<name>, not 'plain'"),
        (WORKLOAD.replace("{}", "{n/s: {0: 1}}"), 5, "number from 1 to 65535, not '0'"),
        (WORKLOAD.replace("{}", "{n/s: {1: 65536}}"), 5, "number from 0 to 65535"),
        (WORKLOAD + WORKLOAD.removeprefix("workloads:\n"), 6, "already defined in line 2"),
        (SERVICE.replace("/10.96.0.1", "10.96.0.1"), 5, "services[0].vips[0]: must be <network>/"),
        (SERVICE.replace("ports: {80: 8080}", "ports: [80]"), 6, "ports: must be a map"),
        (SERVICE + "    cidrVips: [/10.0.0.0/33]\n", 7, "cidrVips[0]: 10.0.0.0/33: prefix is"),
        (SERVICE + "    loadBalancer: {mode: Random}\n", 7, "loadBalancer.mode: must be one of"),
        (SERVICE + "    endpoints: {a: {}}\n", 7, "endpoints follow from"),
        (SERVICE.replace("vips: [/10.96.0.1]\n", "\n"), 2, "the key 'vips' is missing"),
    ],
)
def test_errors_name_file_line_and_key(text: str, line: int, part: str) -> None:
    with pytest.raises(MeshFileError) as caught:
        parse(text.encode(), "mesh.yaml")
    assert caught.value.sentence.startswith(f"mesh.yaml:{line}: ")
    assert part in caught.value.sentence


def test_files_that_are_no_mesh() -> None:
    with pytest.raises(MeshFileError, match="m: the file is empty"):
        parse(b"", "m")
    with pytest.raises(MeshFileError, match="m:2: not UTF-8"):
        parse(b"a: 1\nb: \xff\n", "m")
    with pytest.raises(MeshFileError, match="m: not YAML"):
        parse(b"a: \x00\n", "m")
    with pytest.raises(MeshFileError, match=r"nowhere\.yaml: No such file"):
        load(Path("/nonexistent/nowhere.yaml"))


def test_loose_ends_are_told() -> None:
    text = WORKLOAD.replace("{}", "{n/gone: {80: 80}}") + "    authorizationPolicies: [n/p]\n"
    assert parse(text.encode(), "m").loose_ends() == [
        "workload Kubernetes//Pod/n/a: no service n/gone",
        "workload Kubernetes//Pod/n/a: no policy n/p",
    ]
