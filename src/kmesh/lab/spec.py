"""What a lab must contain, derived from a mesh file: pure."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from kmesh.core import addr
from kmesh.errors import LabError

if TYPE_CHECKING:
    from kmesh.controlplane.mesh import Mesh, MeshService, MeshWorkload

# No dash in a lab's name: "kmesh-a-" must not be a prefix of another lab's namespaces.
LAB_NAME = re.compile(r"[a-z0-9]{1,32}")
POD_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
HUB = "net"
NAME_ADVICE = "Give the workload a name of lower-case letters, digits and dashes."


class Pod(NamedTuple):
    """One workload with a namespace of its own; addresses as text, ports that its server needs."""

    name: str
    workload: str
    netns: str
    addresses: tuple[str, ...]
    ports: tuple[int, ...]


class Plan(NamedTuple):
    """All pods of a lab, and why local workloads were left out."""

    pods: tuple[Pod, ...]
    skipped: tuple[str, ...]


def prefix(lab: str) -> str:
    """How the names of all namespaces of a lab begin; raises LabError for a bad lab name."""
    if LAB_NAME.fullmatch(lab) is None:
        raise LabError(
            f"a lab's name is made of lower-case letters and digits, not {lab!r}",
            "Choose another --name.",
        )
    return f"kmesh-{lab}-"


def plan(mesh: Mesh, lab: str, node: str) -> Plan:
    """Pods for the workloads of ``node``; raises LabError for names and addresses that clash."""
    local = [workload for workload in mesh.workloads if workload.node == node]
    names = Counter(workload.name for workload in local)
    ports = {service.key: dict(service.ports) for service in mesh.services}
    pods, skipped = [], []
    for workload in local:
        if workload.host_network or not workload.addresses:
            why = "it uses the host's network" if workload.host_network else "it has no address"
            skipped.append(f"{workload.uid}: {why}")
            continue
        name = workload.name
        if names[name] > 1:
            name = f"{workload.name}.{workload.namespace}"
        if POD_NAME.fullmatch(name) is None or name == HUB:
            raise LabError(f"{workload.uid}: {name!r} cannot name a namespace", NAME_ADVICE)
        texts = tuple(addr.text(address) for address in workload.addresses)
        pods.append(Pod(name, workload.uid, prefix(lab) + name, texts, _targets(workload, ports)))
    _refuse_twins(pods)
    return Plan(tuple(pods), tuple(skipped))


def _targets(workload: MeshWorkload, services: dict[str, dict[int, int]]) -> tuple[int, ...]:
    """Target ports as connections will use them: the workload's own mapping wins."""
    targets: set[int] = set()
    for membership in workload.memberships:
        merged = {**services.get(membership.service, {})}
        merged.update((port.service, port.target) for port in membership.ports if port.target)
        targets.update(merged.values())
    return tuple(sorted(targets - {0}))


def _refuse_twins(pods: list[Pod]) -> None:
    owners: dict[str, str] = {}
    names: set[str] = set()
    for pod in pods:
        if pod.name in names:
            raise LabError(f"two workloads of this node are called {pod.name}", NAME_ADVICE)
        names.add(pod.name)
        for address in pod.addresses:
            if address in owners:
                raise LabError(
                    f"{address} belongs to {owners[address]} and to {pod.workload}",
                    "Give each local workload its own address.",
                )
            owners[address] = pod.workload


def find_pod(pods: tuple[Pod, ...], name: str) -> Pod:
    """The pod of that name or workload uid; raises LabError naming those there are."""
    for pod in pods:
        if name in (pod.name, pod.workload):
            return pod
    there = ", ".join(pod.name for pod in pods) or "none"
    raise LabError(f"no pod {name!r}; there are: {there}", "Name one of them.")


def resolve(mesh: Mesh, host: str, *, ipv6: bool) -> str:
    """The first VIP of the wanted family of a service: hostname, ``name.namespace`` or ``name``."""
    found = [service for service in mesh.services if host in _spellings(service)]
    if not found:
        raise LabError(f"{host!r} is no address and no service of the mesh file", "Check HOST.")
    if len({service.key for service in found}) > 1:
        keys = ", ".join(service.key for service in found)
        raise LabError(f"{host!r} may mean {keys}", "Give the full hostname.")
    for vip in found[0].vips:
        if vip.plen == 128 and addr.is_ipv4(vip.addr) != ipv6:
            return addr.text(vip.addr)
    family = "IPv6" if ipv6 else "IPv4"
    raise LabError(f"the service {found[0].key} has no {family} VIP", "Dial another family.")


def _spellings(service: MeshService) -> tuple[str, ...]:
    return (service.hostname, f"{service.name}.{service.namespace}", service.name, service.key)
