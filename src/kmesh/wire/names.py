"""The names that only telemetry asks of a kept resource, read again from its raw bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from kmesh.core.labels import Names, ServiceName
from kmesh.core.model import Service, Workload
from kmesh.core.policy import principal
from kmesh.wire.fields import LEN, fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kmesh.core.model import Resource

T = TypeVar("T")

# Field numbers of istio.workload.Workload and Service.
NAME, WORKLOAD_NAME, CANONICAL_NAME, CANONICAL_REVISION = 1, 13, 10, 11


def workload_names(resource: Resource) -> Names:
    """Names of a workload; what the message does not say is empty. Raises ValueError for any other
    resource."""
    value = resource.value
    if not isinstance(value, Workload):
        raise ValueError(f"{resource.name} is no workload")
    texts = _texts(resource.raw, 1)
    return Names(
        pod=texts.get(NAME, ""),
        namespace=value.identity.namespace,
        workload=texts.get(WORKLOAD_NAME, ""),
        canonical=texts.get(CANONICAL_NAME, ""),
        revision=texts.get(CANONICAL_REVISION, ""),
        principal=f"spiffe://{principal(value.identity)}" if all(value.identity) else "",
        cluster=value.profile.cluster,
        region=value.profile.region,
        zone=value.profile.zone,
    )


def service_name(resource: Resource) -> ServiceName:
    """Names of a service; raises ValueError for any other resource."""
    value = resource.value
    if not isinstance(value, Service):
        raise ValueError(f"{resource.name} is no service")
    return ServiceName(value.hostname, value.namespace, _texts(resource.raw, 2).get(NAME, ""))


class NameReader:
    """Names by the name of the resource, read once as long as the resource stays what it is."""

    def __init__(self, held: Mapping[str, Resource], most: int = 1 << 16) -> None:
        self._held, self._most = held, most
        self._workloads: dict[str, tuple[Resource, Names]] = {}
        self._services: dict[str, tuple[Resource, ServiceName]] = {}

    def workload(self, uid: str) -> Names | None:
        """Names of a workload; None when none is held by that name."""
        return self._read(self._workloads, uid, Workload, workload_names)

    def service(self, key: str) -> ServiceName | None:
        """Names of a service by ``namespace/hostname``; None when none is held by that name."""
        return self._read(self._services, key, Service, service_name)

    def _read(
        self,
        known: dict[str, tuple[Resource, T]],
        name: str,
        kind: type,
        read: Callable[[Resource], T],
    ) -> T | None:
        resource = self._held.get(name)
        if resource is None or not isinstance(resource.value, kind):
            known.pop(name, None)
            return None
        found = known.get(name)
        if found is None or found[0] is not resource:
            if len(known) >= self._most:
                known.clear()
            found = known[name] = (resource, read(resource))
        return found[1]


def _texts(raw: bytes, member: int) -> dict[int, str]:
    """Texts by field number of the Address's workload (1) or service (2); the last one counts, and
    a message in pieces is the pieces joined."""
    body = b"".join(each.body for each in fields(raw) if each.kind == LEN and each.tag == member)
    wanted = (NAME, WORKLOAD_NAME, CANONICAL_NAME, CANONICAL_REVISION)
    return {
        each.tag: str(each.body, "utf-8")
        for each in fields(body)
        if each.kind == LEN and each.tag in wanted
    }
