"""The mesh file: ztunnel's local YAML (workloads, services, policies) to :class:`Mesh`.

Unknown keys are errors, as there, so that one file drives both data planes. Every error is a
MeshFileError that names file, line and key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from kmesh.controlplane.mesh import Mesh, MeshService, MeshWorkload
from kmesh.controlplane.nodes import Node, compose
from kmesh.controlplane.policies import policy
from kmesh.core import addr
from kmesh.core.model import Families, Gateway, Membership, Mode, Port, Scope, Vip, Visibility
from kmesh.errors import MeshFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

T = TypeVar("T")
SCOPES = {scope.name.capitalize(): scope for scope in Scope if scope}
MODES = {
    "Standard": Mode.UNSPECIFIED,
    "Strict": Mode.STRICT,
    "Failover": Mode.FAILOVER,
    "Passthrough": Mode.PASSTHROUGH,
}
FAMILIES = {
    "Automatic": Families.AUTOMATIC,
    "IPv4": Families.IPV4_ONLY,
    "IPv6": Families.IPV6_ONLY,
    "Dual": Families.DUAL,
}
TYPES = {name: name for name in ("deployment", "cronjob", "pod", "job")}
WORKLOAD = (
    "uid name network node clusterId trustDomain serviceAccount hostname workloadName workloadType "
    "canonicalName canonicalRevision protocol nativeTunnel networkMode status capacity locality "
    "authorizationPolicies waypoint networkGateway applicationTunnel"
)
SERVICE = (
    "cidrVips loadBalancer ipFamilies canonical visibility waypoint weightedWaypoints "
    "subjectAltNames endpoints"
)


def load(path: Path) -> Mesh:
    """Read and parse a file; raises MeshFileError, also when it cannot be read."""
    return parse(read(path), str(path))


def read(path: Path) -> bytes:
    """A file's content; raises MeshFileError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MeshFileError(f"{path}: {error.strerror}") from error


def parse(data: bytes, file: str) -> Mesh:
    """Parse UTF-8 YAML; ``file`` is only the name in errors."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MeshFileError(f"{file}:{line}: not UTF-8: {error.reason}") from error
    table = compose(text, file).table("", "workloads services policies")
    return Mesh(
        _unique(table.items("workloads"), _workload, lambda one: one.uid),
        _unique(table.items("services"), _service, lambda one: one.key),
        _unique(table.items("policies"), policy, lambda one: one.key),
    )


def _unique(
    nodes: Iterable[Node], read: Callable[[Node], T], name: Callable[[T], str]
) -> tuple[T, ...]:
    first: dict[str, int] = {}
    values = []
    for node in nodes:
        value = read(node)
        if name(value) in first:
            raise node.error(f"{name(value)} is already defined in line {first[name(value)]}")
        first[name(value)] = node.line
        values.append(value)
    return tuple(values)


def _workload(node: Node) -> MeshWorkload:
    table = node.table("workloadIps namespace services", WORKLOAD)
    name = table.get("name", Node.text, "")
    namespace = table.need("namespace", Node.text)
    cluster = table.get("clusterId", Node.text, "")
    if not name and "uid" not in table.values:
        raise node.error("one of the keys 'uid' and 'name' is needed")
    return MeshWorkload(
        uid=table.get("uid", _filled, f"{cluster or 'Kubernetes'}//Pod/{namespace}/{name}"),
        name=name,
        namespace=namespace,
        addresses=table.need("workloadIps", _addresses),
        memberships=table.need("services", _memberships),
        network=table.get("network", Node.text, ""),
        node=table.get("node", Node.text, ""),
        cluster=cluster,
        trust_domain=table.get("trustDomain", Node.text, ""),
        service_account=table.get("serviceAccount", Node.text, ""),
        hostname=table.get("hostname", Node.text, ""),
        workload_name=table.get("workloadName", Node.text, ""),
        workload_type=table.get("workloadType", lambda one: one.choice(TYPES), "deployment"),
        canonical_name=table.get("canonicalName", Node.text, ""),
        canonical_revision=table.get("canonicalRevision", Node.text, ""),
        hbone=table.get("protocol", _choice(TCP=False, HBONE=True), False),
        native_tunnel=table.get("nativeTunnel", Node.boolean, False),
        host_network=table.get("networkMode", _choice(Standard=False, HostNetwork=True), False),
        healthy=table.get("status", _choice(Healthy=True, Unhealthy=False), True),
        capacity=table.get("capacity", lambda one: one.integer(0, 2**32 - 1), None),
        locality=table.get("locality", _locality, None),
        policies=table.get("authorizationPolicies", _keys, ()),
        waypoint=table.get("waypoint", _gateway, None),
        network_gateway=table.get("networkGateway", _gateway, None),
        application_tunnel=table.get("applicationTunnel", _tunnel, None),
    )


def _service(node: Node) -> MeshService:
    table = node.table("name namespace hostname vips ports", SERVICE)
    balancer = table.get(
        "loadBalancer", lambda one: one.table("", "mode routingPreferences healthPolicy"), None
    )
    endpoints = table.values.get("endpoints")
    if endpoints is not None and endpoints.pairs():
        raise endpoints.error("endpoints follow from the workloads' services; leave the map empty")
    vips = [one.convert(_vip) for one in table.items("vips")]
    cidrs = [one.convert(_cidr_vip) for one in table.items("cidrVips")]
    service = MeshService(
        name=table.need("name", Node.text),
        namespace=table.need("namespace", _filled),
        hostname=table.need("hostname", _filled),
        vips=(*vips, *cidrs),
        ports=table.need("ports", _ports),
        families=table.get("ipFamilies", lambda one: one.choice(FAMILIES), Families.AUTOMATIC),
        canonical=table.get("canonical", Node.boolean, False),
        visibility=table.get(
            "visibility",
            _choice(Public=Visibility.PUBLIC, Namespace=Visibility.NAMESPACE),
            Visibility.PUBLIC,
        ),
        waypoint=table.get("waypoint", _gateway, None),
        weighted_waypoints=table.get("weightedWaypoints", _weighted, ()),
        subject_alt_names=table.get("subjectAltNames", _texts, ()),
    )
    if balancer is None:
        return service
    return service._replace(
        mode=balancer.get("mode", lambda one: one.choice(MODES), Mode.UNSPECIFIED),
        preference=balancer.get("routingPreferences", _scopes, ()),
        allow_unhealthy=balancer.get(
            "healthPolicy", _choice(OnlyHealthy=False, AllowAll=True), False
        ),
    )


def _choice(**values: T) -> Callable[[Node], T]:
    return lambda node: node.choice(values)


def _filled(node: Node) -> str:
    text = node.text()
    if not text:
        raise node.error("must not be empty")
    return text


def _texts(node: Node) -> tuple[str, ...]:
    return tuple(one.text() for one in node.items())


def _keys(node: Node) -> tuple[str, ...]:
    return tuple(one.convert(_key) for one in node.items())


def _scopes(node: Node) -> tuple[Scope, ...]:
    return tuple(one.choice(SCOPES) for one in node.items())


def _addresses(node: Node) -> tuple[bytes, ...]:
    return tuple(one.convert(addr.parse) for one in node.items())


def _locality(node: Node) -> tuple[str, str, str]:
    table = node.table("", "region zone subzone")
    region, zone, subzone = (table.get(key, Node.text, "") for key in ("region", "zone", "subzone"))
    return region, zone, subzone


def _ports(node: Node) -> tuple[Port, ...]:
    ports = (Port(key.integer(1, 65535), target.integer(0, 65535)) for key, target in node.pairs())
    return tuple(sorted(ports))


def _memberships(node: Node) -> tuple[Membership, ...]:
    # Sorted: the order of keys in the file must not change the version on the wire.
    return tuple(
        sorted(Membership(key.convert(_key), _ports(ports)) for key, ports in node.pairs())
    )


def _tunnel(node: Node) -> tuple[bool, int]:
    table = node.table("protocol", "port")
    return (
        table.need("protocol", _choice(NONE=False, PROXY=True)),
        table.get("port", lambda one: one.integer(0, 65535), 0),
    )


def _gateway(node: Node) -> Gateway:
    table = node.table("destination", "hboneMtlsPort")
    destination = table.need("destination", lambda one: one.convert(_destination))
    port = table.get("hboneMtlsPort", lambda one: one.integer(1, 65535), 15008)
    return destination._replace(hbone_port=port)


def _weighted(node: Node) -> tuple[tuple[Gateway, int], ...]:
    pairs = []
    for one in node.items():
        table = one.table("destination weight", "hboneMtlsPort")
        gateway = table.need("destination", lambda node: node.convert(_destination))
        port = table.get("hboneMtlsPort", lambda node: node.integer(1, 65535), 15008)
        weight = table.need("weight", lambda node: node.integer(0, 2**32 - 1))
        pairs.append((gateway._replace(hbone_port=port), weight))
    return tuple(pairs)


def _key(text: str) -> str:
    namespace, _, name = text.partition("/")
    if not namespace or not name:
        raise ValueError(f"must be <namespace>/<name>, not {text!r}")
    return text


def _destination(text: str) -> Gateway:
    first, slash, rest = text.partition("/")
    if not slash or not rest:
        raise ValueError(f"must be <namespace>/<hostname> or <network>/<address>, not {text!r}")
    try:
        return Gateway(network=first, addr=addr.parse(rest))
    except ValueError:
        return Gateway(hostname=_key(text))


def _vip(text: str) -> Vip:
    network, slash, rest = text.partition("/")
    if not slash:
        raise ValueError(f"must be <network>/<address> (such as '/10.0.0.1'), not {text!r}")
    return Vip(network, addr.parse(rest))


def _cidr_vip(text: str) -> Vip:
    parts = text.split("/")
    if len(parts) != 3 or not parts[2].isdigit():
        raise ValueError(f"must be <network>/<address>/<length>, not {text!r}")
    base, plen = addr.network(addr.parse(parts[1]), int(parts[2]))
    return Vip(parts[0], base, plen)
