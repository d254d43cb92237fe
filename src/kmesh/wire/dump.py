"""A kept resource as ztunnel's ``config_dump`` shows it, read again from its raw bytes.

The objects are also entries of a mesh file. Values that are the default are left out, as ztunnel
does; about 20 us each, so 100,000 of them are built in slices, never kept.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kmesh.core.model import Authorization, Rejected
from kmesh.wire.fields import LEN, fields, gathered, packed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kmesh.core.model import Resource

_TYPES = ("deployment", "cronjob", "pod", "job")
_SCOPES = ("Unspecified", "Region", "Zone", "Subzone", "Node", "Cluster", "Network")
_MODES = ("Standard", "Strict", "Failover", "Passthrough")
_FAMILIES = (None, "IPv4", "IPv6", "Dual")
_KEPT = 4096  # parts that are remembered: most workloads share theirs with others
_TEXTS = (
    ("name", 1, ""),
    ("namespace", 2, ""),
    ("trustDomain", 6, "cluster.local"),
    ("serviceAccount", 7, "default"),
    ("network", 4, ""),
    ("workloadName", 13, ""),
    ("canonicalName", 10, ""),
    ("canonicalRevision", 11, ""),
    ("hostname", 21, ""),
    ("node", 9, ""),
    ("clusterId", 18, "Kubernetes"),
)


class _Message:
    """A valid message by field number; a message in pieces is the pieces joined."""

    __slots__ = ("bodies", "numbers")

    def __init__(self, data: bytes) -> None:
        self.numbers, self.bodies = gathered(data)

    def text(self, tag: int) -> str:
        return str(self.bodies[tag][-1], "utf-8") if tag in self.bodies else ""

    def texts(self, tag: int) -> list[str]:
        return [str(body, "utf-8") for body in self.bodies.get(tag, ())]

    def number(self, tag: int) -> int:
        return self.numbers.get(tag, 0) & 0xFFFF_FFFF

    def whole(self, tag: int) -> bytes | None:
        return b"".join(self.bodies[tag]) if tag in self.bodies else None

    def child(self, tag: int) -> _Message | None:
        return _Message(b"".join(self.bodies[tag])) if tag in self.bodies else None

    def children(self, tag: int) -> Iterable[_Message]:
        return map(_Message, self.bodies.get(tag, ()))


def dump(resource: Resource) -> dict[str, Any]:
    """The JSON object of a Workload or Service, of which parts are shared with others: it must not
    be changed. Raises ValueError for any other resource."""
    if isinstance(resource.value, Rejected | Authorization):
        raise ValueError(f"{resource.name}: neither a workload nor a service")
    bodies = gathered(resource.raw)[1]
    if 1 in bodies and 2 in bodies:
        member, body = _later(resource.raw)
    else:
        member = 1 if 1 in bodies else 2
        body = b"".join(bodies.get(member, ()))
    return _workload(_Message(body)) if member == 1 else _service(_Message(body))


def _later(raw: bytes) -> tuple[int, bytes]:
    """Of fields 1 and 2 the one that is in force, the later one, where it has a later piece."""
    member, bodies = 0, list[bytes]()
    for field in fields(raw):
        if field.kind == LEN and field.tag in (1, 2):
            bodies = bodies if field.tag == member else []
            bodies.append(field.body)
            member = field.tag
    return member, b"".join(bodies)


def _filled(shape: dict[str, Any]) -> dict[str, Any]:
    """Without what is absent, empty or false."""
    return {key: value for key, value in shape.items() if value}


def _workload(m: _Message) -> dict[str, Any]:
    bodies = m.bodies
    capacity, tunnel = m.child(27), m.child(23)
    found = {
        "uid": m.text(20),
        "workloadIps": [_address(raw) for raw in bodies.get(3, ())],
        "protocol": "HBONE" if m.number(5) else "TCP",
        "networkMode": "HostNetwork" if m.number(25) else "Standard",
        "workloadType": _TYPES[m.number(12)],
        "status": "Unhealthy" if m.number(17) else "Healthy",
        "capacity": capacity.number(1) if capacity else 1,
        "services": dict(map(_member, bodies.get(22, ()))),
    }
    for key, tag, default in _TEXTS:
        if text := (str(bodies[tag][-1], "utf-8") if tag in bodies else "") or default:
            found[key] = text
    return found | _filled(
        {
            "waypoint": _gateway(m.whole(8)),
            "networkGateway": _gateway(m.whole(19)),
            "nativeTunnel": bool(m.number(14)),
            "applicationTunnel": tunnel and _tunnel(tunnel),
            "authorizationPolicies": m.texts(16),
            "locality": _locality(m.whole(24)),
        }
    )


def _address(raw: bytes) -> str:
    return ".".join(map(str, raw)) if len(raw) == 4 else str(ipaddress.ip_address(raw))


@lru_cache(_KEPT)
def _member(raw: bytes) -> tuple[str, dict[str, int]]:
    """One entry of a workload's services."""
    entry = _Message(raw)
    ports = entry.child(2)
    return entry.text(1), _ports(ports.children(1) if ports else ())


@lru_cache(_KEPT)
def _locality(raw: bytes | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    m = _Message(raw)
    return _filled({"region": m.text(1), "zone": m.text(2), "subzone": m.text(3)})


def _service(m: _Message) -> dict[str, Any]:
    vips = [(one.text(1), *_cidr(one)) for one in m.children(4)]
    weighted = [(one.whole(1), one.number(2)) for one in m.children(13)]
    always = {
        "name": m.text(1),
        "namespace": m.text(2),
        "hostname": m.text(3),
        "vips": [f"{network}/{ip}" for network, ip, length in vips if length is None],
        "ports": _ports(m.children(5)),
    }
    optional = {
        "cidrVips": [f"{net}/{ip}/{length}" for net, ip, length in vips if length is not None],
        "subjectAltNames": m.texts(6),
        "waypoint": _gateway(m.whole(7)),
        "weightedWaypoints": [
            {**(_gateway(gateway) or {}), "weight": weight} for gateway, weight in weighted
        ],
        "loadBalancer": _balancer(m),
        "ipFamilies": _FAMILIES[m.number(9)],
        "canonical": bool(m.number(11)),
        "visibility": "Namespace" if m.number(14) == 1 else None,
    }
    return always | _filled(optional)


def _balancer(m: _Message) -> dict[str, Any] | None:
    found = m.child(8)
    if found is None:
        return None
    # Packed and unpacked numbers may alternate: their order needs the fields themselves.
    data = b"".join(m.bodies[8])
    scopes = [number for field in fields(data) if field.tag == 1 for number in packed(field)]
    return {
        "routingPreferences": [_SCOPES[scope & 0xFFFF_FFFF] for scope in scopes],
        "mode": _MODES[found.number(2)],
        "healthPolicy": "AllowAll" if found.number(3) else "OnlyHealthy",
    }


def _ports(ports: Iterable[_Message]) -> dict[str, int]:
    return {str(one.number(1)): one.number(2) for one in ports}


def _tunnel(m: _Message) -> dict[str, Any]:
    return {"protocol": "PROXY" if m.number(1) else "NONE", "port": m.number(2) or None}


def _cidr(m: _Message) -> tuple[str, int | None]:
    """Address text and, unless it is exact, its family's prefix length."""
    raw = m.bodies[2][-1]
    length = m.number(3) if 3 in m.numbers else None
    return str(ipaddress.ip_address(raw)), None if length == 8 * len(raw) else length


@lru_cache(_KEPT)
def _gateway(raw: bytes | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    m = _Message(raw)
    # The later of fields 1 and 2 is in force, where it has a later piece.
    member = [field.tag for field in fields(raw) if field.kind == LEN and field.tag <= 2][-1]
    target = _Message(b"".join(m.bodies[member]))
    if member == 1:
        destination = f"{target.text(1)}/{target.text(2)}"
    else:
        destination = f"{target.text(1)}/{ipaddress.ip_address(target.bodies[2][-1])}"
    return {"destination": destination, "hboneMtlsPort": m.number(3)}
