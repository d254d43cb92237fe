"""Meshes of unusual shape, and single pods and services, encoded as istiod does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from benchmarks import dataset
from benchmarks.dataset import Encoded, entry, number, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

NAMESPACE = "bench"
AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"
POD_BASE, VIP_BASE = 0x0A_C0_00_00, 0x0A_30_00_00
Ports = list[tuple[int, int]]
"""Service port, target port."""


class Vip(NamedTuple):
    """An address, 4 bytes; with a ``length`` a prefix."""

    address: bytes
    length: int = 0


def hostname(name: str) -> str:
    """The host name of a service of the benchmark."""
    return f"{name}.{NAMESPACE}.svc.cluster.local"


def uid(name: str) -> str:
    """The uid of a pod of the benchmark."""
    return f"{dataset.CLUSTER}//Pod/{NAMESPACE}/{name}"


def service(name: str, vips: Iterable[Vip], ports: Ports) -> Encoded:
    """A service by name."""
    parts = [text(1, name), text(2, NAMESPACE), text(3, hostname(name))]
    for vip in vips:
        length = number(3, vip.length) if vip.length else b""
        parts.append(text(4, text(1, "network-1") + text(2, vip.address) + length))
    parts += [text(5, _port(*each)) for each in ports]
    return entry(f"{NAMESPACE}/{hostname(name)}", text(2, b"".join(parts)))


def pod(name: str, address: bytes, of: Mapping[str, Ports], node: str) -> Encoded:
    """A pod on a node, an endpoint of services by their names."""
    body = [text(20, uid(name)), text(1, name), text(2, NAMESPACE), text(3, address)]
    body += [text(4, "network-1"), text(7, "default"), text(9, node), text(18, dataset.CLUSTER)]
    for service_name, ports in of.items():
        listed = b"".join(text(1, _port(*each)) for each in ports)
        key = f"{NAMESPACE}/{hostname(service_name)}"
        body.append(text(22, text(1, key) + text(2, listed)))
    return entry(uid(name), text(1, b"".join(body)))


def wide(endpoints: int) -> Iterator[Encoded]:
    """One service with so many endpoints."""
    ports = [(80, 8080)]
    yield service("wide", [Vip(_vip(0))], ports)
    for index in range(endpoints):
        yield pod(f"wide-{index:06d}", _pod(index), {"wide": ports}, f"n{index // 60}")


def many_ports(count: int, endpoints: int = 20) -> Iterator[Encoded]:
    """One service with so many ports."""
    ports = [(10_000 + index, 20_000 + index) for index in range(count)]
    yield service("ports", [Vip(_vip(0))], ports)
    for index in range(endpoints):
        yield pod(f"ports-{index:04d}", _pod(index), {"ports": ports}, f"n{index // 60}")


def cidrs(count: int, each: int = 10) -> Iterator[Encoded]:
    """Services with ``each`` address ranges and one endpoint each."""
    ports = [(80, 8080)]
    for index in range(count // each):
        name = f"range-{index:05d}"
        first = index * each
        ranges = [Vip((0x0B_00_00_00 + 256 * (first + i)).to_bytes(4), 24) for i in range(each)]
        yield service(name, ranges, ports)
        yield pod(f"{name}-0", _pod(index), {name: ports}, f"n{index // 60}")


def policies(count: int, namespaces: int = 200) -> Iterator[Encoded]:
    """Policies of three rules each, as teams write them, spread over namespaces; the first is that
    of ``pod``."""
    for index in range(count):
        number_ = index % namespaces
        namespace = f"payments-eu-{number_:03d}" if number_ else NAMESPACE
        name = f"allow-{index:05d}"
        callers = [f"cluster.local/ns/{namespace}/sa/caller-{index}-{i}" for i in range(3)]
        rules = b"".join(
            text(5, text(1, text(2, text(3, text(1, who)) + number(9, 8080)))) for who in callers
        )
        message = text(1, name) + text(2, namespace) + number(3, 1) + rules
        yield entry(f"{namespace}/{name}", message)._replace(type_url=AUTHORIZATION)


def restarted(service_index: int, endpoints: Sequence[int]) -> Iterator[Encoded]:
    """New pods with new addresses for a service of the large mesh."""
    _, namespace, host = dataset.service_names(service_index)
    listed = text(1, _port(80, 8080)) + text(1, _port(9090, 9090))
    for index in endpoints:
        name = f"restarted-{service_index}-{index}"
        address = (0x0A_E0_00_00 + (service_index << 8) + index).to_bytes(4)
        body = [text(20, uid(name)), text(1, name), text(2, namespace), text(3, address)]
        body += [text(4, "network-1"), text(18, dataset.CLUSTER)]
        body.append(text(22, text(1, f"{namespace}/{host}") + text(2, listed)))
        yield entry(uid(name), text(1, b"".join(body)))


def _port(service_port: int, target_port: int) -> bytes:
    return number(1, service_port) + number(2, target_port)


def _vip(index: int) -> bytes:
    return (VIP_BASE + index).to_bytes(4)


def _pod(index: int) -> bytes:
    return (POD_BASE + index).to_bytes(4)
