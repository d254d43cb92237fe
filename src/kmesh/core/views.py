"""What is wanted, in the shapes that tools know: upstream's config dump, and ztunnel's.

The objects that come in are those of ``wire.dump`` (ztunnel's shape); kmesh-contract 7.1 and
ambient-contract 6.3 list the keys.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh.core import addr
from kmesh.core.model import Authorization, PolicyScope, Service, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmesh.core.model import Match, Resource, StringMatch

Shape = dict[str, Any]
SCOPES = {
    PolicyScope.GLOBAL: "Global",
    PolicyScope.NAMESPACE: "Namespace",
    PolicyScope.WORKLOAD_SELECTOR: "WorkloadSelector",
}
_TEXTS = (
    "protocol", "name", "namespace", "serviceAccount", "workloadName", "workloadType",
    "canonicalName", "canonicalRevision", "clusterId", "trustDomain", "locality", "node", "network",
    "status",
)  # fmt: skip


class Chosen(NamedTuple):
    """Which resources a dump shows; an empty field chooses all. ``name`` is the last part of a uid,
    or a service's hostname or its first label, or a policy's name."""

    namespace: str = ""
    name: str = ""

    def has(self, resource: Resource) -> bool:
        """Whether a resource is chosen; nothing is decoded for it."""
        return not any(self) or self._fits(*_titles(resource))

    def has_service(self, key: str) -> bool:
        """Whether a service is chosen by its key ``namespace/hostname``."""
        namespace, _, hostname = key.partition("/")
        return not any(self) or self._fits(namespace, (key, hostname, hostname.partition(".")[0]))

    def has_pod(self, uid: str) -> bool:
        """Whether a pod is chosen by its uid ``cluster//Pod/namespace/name``."""
        *_, namespace, name = ("", "", *uid.split("/"))
        return not any(self) or self._fits(namespace, (uid, name))

    def _fits(self, namespace: str, names: tuple[str, ...]) -> bool:
        if self.namespace and namespace != self.namespace:
            return False
        return not self.name or self.name in names


def _titles(resource: Resource) -> tuple[str, tuple[str, ...]]:
    value = resource.value
    if isinstance(value, Workload):
        return value.identity.namespace, (value.uid, value.uid.rpartition("/")[2])
    if isinstance(value, Service):
        return value.namespace, (value.key, value.hostname, value.hostname.partition(".")[0])
    if isinstance(value, Authorization):
        return value.namespace, (value.key, value.key.partition("/")[2])
    return "", (resource.name,)


def upstream_workload(found: Mapping[str, Any]) -> Shape:
    """A workload as upstream's dual-engine dump shows it."""
    shape: Shape = {"uid": found["uid"], "addresses": found["workloadIps"]}
    if waypoint := found.get("waypoint"):
        shape["waypoint"] = waypoint["destination"]
    shape |= {name: found[name] for name in _TEXTS if name in found}
    shape["protocol"] = "HBONE" if found["protocol"] == "HBONE" else "NONE"
    shape["workloadType"] = found["workloadType"].upper()
    shape["status"] = found["status"].upper()
    if tunnel := found.get("applicationTunnel"):
        shape["applicationTunnel"] = {"protocol": tunnel["protocol"], "port": tunnel["port"] or 0}
    shape["services"] = list(found["services"])
    shape["authorizationPolicies"] = found.get("authorizationPolicies", [])
    return shape


def upstream_service(found: Mapping[str, Any]) -> Shape:
    """A service as upstream's dual-engine dump shows it."""
    balancer = found.get("loadBalancer")
    waypoint = found.get("waypoint")
    return {
        "name": found["name"],
        "namespace": found["namespace"],
        "hostname": found["hostname"],
        "vips": [*found["vips"], *found.get("cidrVips", ())],
        "ports": [
            {"service_port": int(port), "target_port": target}
            for port, target in found["ports"].items()
        ],
        "loadBalancer": balancer and {
            "mode": "UNSPECIFIED_MODE" if balancer["mode"] == "Standard"
            else balancer["mode"].upper(),
            "routingPreferences": [_constant(scope) for scope in balancer["routingPreferences"]],
        },
        "waypoint": waypoint and {"destination": waypoint["destination"]},
    }  # fmt: skip


def upstream_policy(policy: Authorization) -> Shape:
    """A policy as upstream's dual-engine dump shows it."""
    found = ztunnel_policy(policy)
    return {
        "name": found["name"],
        "namespace": found["namespace"],
        "scope": _constant(found["scope"]),
        "action": found["action"].upper(),
        "rules": found["rules"],
    }


def ztunnel_policy(policy: Authorization) -> Shape:
    """A policy as ztunnel's dump and mesh files have it."""
    return {
        "name": policy.key.removeprefix(f"{policy.namespace}/"),
        "namespace": policy.namespace,
        "scope": SCOPES[policy.scope],
        "action": policy.action.name.capitalize(),
        "dryRun": policy.dry_run,
        "rules": [
            [[_match(match) for match in clause] for clause in rule] for rule in policy.rules
        ],
    }


def _match(match: Match) -> Shape:
    shape: Shape = {}
    for field, value in match._asdict().items():
        if value:
            kind = field.removeprefix("not_")
            shape[_camel(field)] = [_VALUES.get(kind, str)(each) for each in value]
    return shape


def _string(match: StringMatch) -> Shape:
    return {match.kind: match.value if match.kind != "presence" else None}


def _cidr(cidr: tuple[bytes, int]) -> str:
    raw, length = cidr
    if addr.is_ipv4(raw) and length >= 96:
        return f"{ipaddress.IPv4Address(raw[12:])}/{length - 96}"
    return f"{ipaddress.IPv6Address(raw)}/{length}"


_VALUES: dict[str, Any] = {
    "namespaces": _string,
    "principals": _string,
    "source_ips": _cidr,
    "destination_ips": _cidr,
    "destination_ports": int,
    "service_accounts": "/".join,
}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _constant(name: str) -> str:
    """``WorkloadSelector`` as ``WORKLOAD_SELECTOR``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()
