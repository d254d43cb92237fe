"""A large mesh, as istiod sends it: the same for the same arguments, encoded by hand so that a
server process can make 100,000 resources in a few seconds.

Workloads are about 370 bytes each, 20 endpoints per service, pods spread over nodes and zones.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ADDRESS_TYPE = "type.googleapis.com/istio.workload.Address"
ADDRESS = ADDRESS_TYPE.encode()
CLUSTER = "Kubernetes"
ENDPOINTS = 20
PODS_PER_NODE = 60
NAMESPACES = 200
REGION, ZONES = "europe-west4", ("a", "b", "c")


class Encoded(NamedTuple):
    """``message`` is an encoded resource; ``entry`` an encoded discovery Resource around it."""

    name: str
    version: str
    message: bytes
    entry: bytes
    type_url: str = ADDRESS_TYPE


@lru_cache(maxsize=4096)
def varint(value: int) -> bytes:
    """A base-128 number."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(tag: int, value: int) -> bytes:
    """A varint field; nothing for 0."""
    return varint(tag << 3) + varint(value) if value else b""


def text(tag: int, value: str | bytes) -> bytes:
    """A string, bytes or message field."""
    raw = value if isinstance(value, bytes) else value.encode()
    return varint(tag << 3 | 2) + varint(len(raw)) + raw


def entry(name: str, message: bytes) -> Encoded:
    """An Address as one entry of a response; its version is a hash of the content, as istiod's."""
    version = blake2b(message, digest_size=8).hexdigest()
    wrapped = text(1, ADDRESS) + text(2, message)
    return Encoded(name, version, message, text(1, version) + text(2, wrapped) + text(3, name))


def service_names(index: int) -> tuple[str, str, str]:
    """(name, namespace, hostname) of a service."""
    name, namespace = f"checkout-api-{index:05d}", f"payments-eu-{index % NAMESPACES:03d}"
    return name, namespace, f"{name}.{namespace}.svc.cluster.local"


def pod_address(index: int) -> bytes:
    """The IPv4 address of a pod, 4 bytes below 10.0.0.0/8."""
    return (0x0A_40_00_00 + index).to_bytes(4, "big")


def service_address(index: int) -> bytes:
    """The VIP of a service, 4 bytes below 10.0.0.0/8."""
    return (0x0A_10_00_00 + index).to_bytes(4, "big")


def service(index: int) -> Encoded:
    """One service with two ports."""
    name, namespace, hostname = service_names(index)
    ports = text(5, number(1, 80) + number(2, 8080) + number(3, 1))
    ports += text(5, number(1, 9090) + number(2, 9090) + number(3, 4))
    message = text(
        2,
        text(1, name)
        + text(2, namespace)
        + text(3, hostname)
        + text(4, text(1, "network-1") + text(2, service_address(index)))
        + ports
        + text(6, f"spiffe://cluster.local/ns/{namespace}/sa/{name}"),
    )
    return entry(f"{namespace}/{hostname}", message)


def workload(index: int, unhealthy: bool = False) -> Encoded:
    """One pod, an endpoint of service ``index // ENDPOINTS``."""
    name, namespace, hostname = service_names(index // ENDPOINTS)
    suffix = f"{index * 2654435761 % 2**32:08x}"
    pod = f"{name}-7d9f8{index // ENDPOINTS % 1000:03d}-{suffix[:5]}"
    uid = f"{CLUSTER}//Pod/{namespace}/{pod}"
    node = index // PODS_PER_NODE
    zone = ZONES[node % len(ZONES)]
    ports = text(1, number(1, 80) + number(2, 8080) + number(3, 1))
    ports += text(1, number(1, 9090) + number(2, 9090) + number(3, 4))
    body = [
        text(20, uid),
        text(1, pod),
        text(2, namespace),
        text(3, pod_address(index)),
        text(4, "network-1"),
        number(5, 1),
        text(7, name),
        text(9, f"gke-production-pool-{node % 7}-{node:05x}"),
        text(10, name),
        text(11, "v1"),
        text(13, name),
        number(17, int(unhealthy)),
        text(18, CLUSTER),
        text(22, text(1, f"{namespace}/{hostname}") + text(2, ports)),
        text(24, text(1, REGION) + text(2, f"{REGION}-{zone}")),
    ]
    return entry(uid, text(1, b"".join(body)))


def mesh(workloads: int, services: int) -> Iterator[Encoded]:
    """All services, then all workloads."""
    yield from map(service, range(services))
    yield from map(workload, range(workloads))


def response(entries: Iterable[Encoded], nonce: str, removed: Iterable[str] = ()) -> bytes:
    """An encoded DeltaDiscoveryResponse: type URL and nonce after the resources."""
    parts = [text(2, one.entry) for one in entries]
    parts += [text(4, ADDRESS), text(5, nonce)]
    parts += [text(6, name) for name in removed]
    return b"".join(parts)


def responses(entries: list[Encoded], size: int) -> list[bytes]:
    """The set as several responses of ``size`` resources each."""
    starts = range(0, len(entries), size)
    return [response(entries[at : at + size], f"n{at}") for at in starts]


def change(index: int, revision: int) -> bytes:
    """A response with one endpoint whose health flips with every revision."""
    return response([workload(index, bool(revision & 1))], f"c{index}-{revision}")
