"""The mesh as the control plane describes it: what the planner needs, and no more.

Every class is an immutable tuple of atoms, so that 100,000 of them cost the garbage collector
nothing; equal parts are shared (the decoder interns them). Everything that only a dump shows is
read again from the raw bytes. Meanings and defaults: Istio's workload.proto as ztunnel applies it.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple


class Scope(IntEnum):
    """What two workloads must share for an endpoint to count as near."""

    UNSPECIFIED = 0
    REGION = 1
    ZONE = 2
    SUBZONE = 3
    NODE = 4
    CLUSTER = 5
    NETWORK = 6


class Mode(IntEnum):
    """How a service uses its routing preference."""

    UNSPECIFIED = 0
    STRICT = 1
    FAILOVER = 2
    PASSTHROUGH = 3


class Families(IntEnum):
    """Which address families of an endpoint a service may use."""

    AUTOMATIC = 0
    IPV4_ONLY = 1
    IPV6_ONLY = 2
    DUAL = 3


class Visibility(IntEnum):
    """Who sees a service; unknown values count as PUBLIC."""

    PUBLIC = 0
    NAMESPACE = 1


class Trait(IntFlag):
    """Yes/no facts of a workload. Rows carry them as a plain int: its ``&`` is far faster."""

    HEALTHY = 1
    HOST_NETWORK = 2
    HBONE = 4
    NATIVE_TUNNEL = 8
    POD = 16  # uid contains "//Pod/"
    HAS_HOSTNAME = 32


class Profile(NamedTuple):
    """Where a workload is; the six strings that routing preferences compare."""

    network: str = ""
    cluster: str = "Kubernetes"
    node: str = ""
    region: str = ""
    zone: str = ""
    subzone: str = ""


class Identity(NamedTuple):
    """SPIFFE identity: ``spiffe://<trust_domain>/ns/<namespace>/sa/<service_account>``."""

    trust_domain: str = "cluster.local"
    namespace: str = ""
    service_account: str = "default"


class Gateway(NamedTuple):
    """A waypoint or network gateway.

    ``hostname`` is ``<namespace>/<hostname>`` or empty; else ``network`` and the 16-byte ``addr``.
    """

    hostname: str = ""
    network: str = ""
    addr: bytes = b""
    hbone_port: int = 0


class Port(NamedTuple):
    """Service port to target port; target 0 means "ask the endpoint" (a named port)."""

    service: int
    target: int


class Membership(NamedTuple):
    """A workload is an endpoint of ``service`` (``<namespace>/<hostname>``)."""

    service: str
    ports: tuple[Port, ...]


class Workload(NamedTuple):
    """One workload. ``addresses`` are 16 bytes each; ``capacity`` is its weight, 0 is never."""

    uid: str
    identity: Identity
    profile: Profile
    addresses: tuple[bytes, ...]
    memberships: tuple[Membership, ...]
    policies: tuple[str, ...] = ()
    traits: int = int(Trait.HEALTHY)
    capacity: int = 1
    tunnel_port: int = 0
    waypoint: Gateway | None = None
    network_gateway: Gateway | None = None


class Vip(NamedTuple):
    """A service address: 16 masked bytes and a prefix length out of 128 (128 is an exact VIP)."""

    network: str
    addr: bytes
    plen: int = 128


class Service(NamedTuple):
    """One service; ``key`` is ``<namespace>/<hostname>``."""

    key: str
    namespace: str
    hostname: str
    vips: tuple[Vip, ...]
    ports: tuple[Port, ...]
    mode: Mode = Mode.UNSPECIFIED
    preference: tuple[Scope, ...] = ()
    allow_unhealthy: bool = False
    families: Families = Families.AUTOMATIC
    canonical: bool = False
    visibility: Visibility = Visibility.PUBLIC
    waypoint: Gateway | None = None


class Rejected(NamedTuple):
    """A resource that cannot be used, and why: NACKed by name, the last good version stays."""

    name: str
    reason: str


class Resource(NamedTuple):
    """One entry of a delta response.

    ``raw`` is the encoded message itself (an Address or an Authorization), kept for dumps.
    """

    name: str
    version: str
    raw: bytes
    value: Workload | Service | Authorization | Rejected


class StringMatch(NamedTuple):
    """``kind`` is exact, prefix, suffix or presence; ``value`` is empty for presence."""

    kind: str
    value: str = ""


class Match(NamedTuple):
    """AND over the non-empty kinds, OR inside a kind. CIDRs are (16 masked bytes, plen of 128);
    service accounts are (namespace, name)."""

    namespaces: tuple[StringMatch, ...] = ()
    not_namespaces: tuple[StringMatch, ...] = ()
    principals: tuple[StringMatch, ...] = ()
    not_principals: tuple[StringMatch, ...] = ()
    source_ips: tuple[tuple[bytes, int], ...] = ()
    not_source_ips: tuple[tuple[bytes, int], ...] = ()
    destination_ips: tuple[tuple[bytes, int], ...] = ()
    not_destination_ips: tuple[tuple[bytes, int], ...] = ()
    destination_ports: tuple[int, ...] = ()
    not_destination_ports: tuple[int, ...] = ()
    service_accounts: tuple[tuple[str, str], ...] = ()
    not_service_accounts: tuple[tuple[str, str], ...] = ()


class PolicyScope(IntEnum):
    """Which workloads a policy is about."""

    GLOBAL = 0
    NAMESPACE = 1
    WORKLOAD_SELECTOR = 2


class Action(IntEnum):
    """What a matching policy does."""

    ALLOW = 0
    DENY = 1


class Authorization(NamedTuple):
    """One L4 policy. ``rules``: OR of rules, each an AND of clauses, each an OR of matches."""

    key: str
    namespace: str
    scope: PolicyScope
    action: Action
    rules: tuple[tuple[tuple[Match, ...], ...], ...]
    dry_run: bool = False
