"""The normal form that native/scan_*.c write, to model rows.

Numbers are native-endian; texts are UTF-8, each ended by the byte 0xff, which UTF-8 never has.

- shared: u32 traits, capacity, tunnel port, memberships, ports; u16 (destination, port) of waypoint
  and network gateway; u32 ports per membership; u16 pairs of ports; 16 bytes per gateway that is an
  address; texts: trust domain, namespace, service account, gateways, memberships, policies.
- profile: texts in the order of core.model.Profile.
- service: u32 vips, ports, scopes; u16 (destination, port) of the waypoint; bytes mode, health
  policy, families, flags; 17 bytes per vip; u16 pairs of ports; a byte per scope; 16 bytes if the
  waypoint is an address; texts: key, namespace, hostname, waypoint, network of each vip.

Strings that hardly differ between resources (namespaces, hostnames) are shared through Tables.
"""

from __future__ import annotations

from struct import Struct, unpack, unpack_from
from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.model import (
    Families,
    Gateway,
    Identity,
    Membership,
    Mode,
    Port,
    Profile,
    Scope,
    Service,
    Vip,
    Visibility,
)
from kmesh.core.quick import NEW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.wire.table import Tables

_SHARED = Struct("=IIIIIHHHH")
_SERVICE = Struct("=IIIHHBBBB")
_HOSTNAME, _ADDRESS = 1, 2

_SCOPES = tuple(Scope)
_MODES = tuple(Mode)
_FAMILIES = tuple(Families)
_VISIBILITIES = tuple(Visibility)


class Shared(NamedTuple):
    """What the replicas of one deployment have in common; ``rest`` are a Workload's fields from
    ``memberships`` on."""

    identity: Identity
    rest: tuple[object, ...]


def _texts(data: bytes, start: int) -> list[str]:
    # One decoding for all: the separator, invalid in UTF-8, becomes a lone surrogate.
    return str(data[start:-1], "utf-8", "surrogateescape").split("\udcff")


def ports(data: bytes, tables: Tables) -> tuple[Port, ...]:
    """Pairs of u16."""
    found = tables.ports.get(data)
    if found is None:
        numbers = iter(unpack(f"={len(data) // 2}H", data))
        found = tuple([Port(*pair) for pair in zip(numbers, numbers, strict=True)])
        tables.ports.put(data, found)
    return found


def _gateway(
    destination: int, port: int, addr: bytes, texts: Iterator[str], tables: Tables
) -> Gateway | None:
    if destination == _HOSTNAME:
        return tables.gateways.share(Gateway(hostname=next(texts), hbone_port=port))
    if destination == _ADDRESS:
        gateway = Gateway(network=next(texts), addr=addr, hbone_port=port)
        return tables.gateways.share(gateway)
    return None


def _memberships(
    counts: tuple[int, ...], packed: bytes, texts: Iterator[str], tables: Tables
) -> tuple[Membership, ...]:
    # A map has no order and the last of equal keys wins.
    found, at = {}, 0
    for count in counts:
        found[tables.texts.share(next(texts))] = ports(packed[at : at + 4 * count], tables)
        at += 4 * count
    rows = [Membership(key, found[key]) for key in sorted(found)]
    return tables.memberships.share(tuple(rows))


def shared(data: bytes, tables: Tables) -> Shared:
    """The part of a workload that replicas share."""
    traits, capacity, tunnel_port, members, port_count, way, way_port, gate, gate_port = (
        _SHARED.unpack_from(data)
    )
    at = _SHARED.size + 4 * members
    counts = unpack_from(f"={members}I", data, _SHARED.size)
    port_bytes = data[at : at + 4 * port_count]
    at += 4 * port_count
    way_addr = data[at : at + 16]
    at += 16 * (way == _ADDRESS)
    gate_addr = data[at : at + 16]
    texts = iter(_texts(data, at + 16 * (gate == _ADDRESS)))
    domain, namespace, account = next(texts), next(texts), next(texts)
    identity = Identity(domain or "cluster.local", namespace, account or "default")
    waypoint = _gateway(way, way_port, way_addr, texts, tables)
    gateway = _gateway(gate, gate_port, gate_addr, texts, tables)
    memberships = _memberships(counts, port_bytes, texts, tables)
    policies = tables.policies.share(tuple(texts))
    rest = (memberships, policies, traits, capacity, tunnel_port, waypoint, gateway)
    return Shared(tables.identities.share(identity), rest)


def profile(data: bytes, tables: Tables) -> Profile:
    """Where a workload is."""
    texts = [tables.texts.share(text) for text in _texts(data, 0)]
    texts[1] = texts[1] or "Kubernetes"
    return Profile(*texts)


def service(data: bytes, tables: Tables) -> Service:
    """A whole service."""
    vips, port_count, scopes, way, way_port, mode, health, families, flags = _SERVICE.unpack_from(
        data
    )
    at = _SERVICE.size
    vip_ends = range(at + 16, at + 17 * vips, 17)
    at += 17 * vips
    ports_at, at = at, at + 4 * port_count
    scopes_at, at = at, at + scopes
    texts = iter(_texts(data, at + 16 * (way == _ADDRESS)))
    key, namespace, hostname = next(texts), next(texts), next(texts)
    waypoint = _gateway(way, way_port, data[at : at + 16], texts, tables) if way else None
    kept = tables.texts.get
    row: Service = NEW(
        Service,
        (
            kept(key) or tables.texts.put(key, key),
            kept(namespace) or tables.texts.put(namespace, namespace),
            hostname,
            tuple([NEW(Vip, (next(texts), data[e - 16 : e], data[e])) for e in vip_ends]),
            ports(data[ports_at:scopes_at], tables),
            _MODES[mode],
            tuple([_SCOPES[value] for value in data[scopes_at:at]]) if scopes else (),
            health == 1,
            _FAMILIES[families],
            bool(flags & 1),
            _VISIBILITIES[flags >> 1],
            waypoint,
        ),
    )
    return row
