"""Small meshes for tests: builders with short names, and Hypothesis strategies."""

from __future__ import annotations

from hypothesis import strategies as st

from kmesh.core import addr
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
    Trait,
    Vip,
    Visibility,
    Workload,
)

HOME = Profile("", "Kubernetes", "n1", "r1", "z1", "s1")
NEAR = HOME._replace(node="n2")
FAR = Profile("", "Kubernetes", "n9", "r9", "z9", "s9")
PLACES = (HOME, NEAR, FAR)


def uid(name: str, namespace: str = "default") -> str:
    """Uid of a pod."""
    return f"Kubernetes//Pod/{namespace}/{name}"


def workload(
    name: str,
    *ips: str,
    of: str | tuple[str, ...] = (),
    ports: tuple[tuple[int, int], ...] = (),
    namespace: str = "default",
    profile: Profile = HOME,
    healthy: bool = True,
    capacity: int = 1,
    traits: int = Trait.POD,
    tunnel_port: int = 0,
) -> Workload:
    """A pod with addresses, endpoint of the services ``of``."""
    services = (of,) if isinstance(of, str) else of
    memberships = tuple(Membership(key, tuple(Port(*p) for p in ports)) for key in services)
    return Workload(
        uid(name, namespace),
        Identity(namespace=namespace),
        profile,
        tuple(addr.parse(ip) for ip in ips),
        memberships,
        traits=int(traits | (Trait.HEALTHY if healthy else 0)),
        capacity=capacity,
        tunnel_port=tunnel_port,
    )


def vip(text: str, network: str = "") -> Vip:
    """``10.0.0.1`` or ``10.0.0.0/24``."""
    ip, _, length = text.partition("/")
    raw = addr.parse(ip)
    base, plen = addr.network(raw, int(length)) if length else (raw, 128)
    return Vip(network, base, plen)


def service(
    key: str,
    *vips: str,
    ports: tuple[tuple[int, int], ...] = ((80, 8080),),
    mode: Mode = Mode.UNSPECIFIED,
    preference: tuple[Scope, ...] = (),
    allow_unhealthy: bool = False,
    families: Families = Families.AUTOMATIC,
    canonical: bool = False,
    visibility: Visibility = Visibility.PUBLIC,
    waypoint: Gateway | None = None,
) -> Service:
    """A service named ``<namespace>/<hostname>``."""
    namespace, _, hostname = key.partition("/")
    return Service(
        key, namespace, hostname, tuple(vip(v) for v in vips), tuple(Port(*p) for p in ports),
        mode, preference, allow_unhealthy, families, canonical, visibility, waypoint,
    )  # fmt: skip


WEB, DB, OTHER = "default/web", "default/db", "other/web"
KEYS = (WEB, DB, OTHER)
VIPS = ("10.9.0.1", "10.9.0.2", "fd09::1", "10.9.0.0/24")
IPS = ("10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "fd01::1", "fd01::2")
NAMES = ("a", "b", "c", "d")

ports = st.lists(
    st.sampled_from(((80, 8080), (80, 0), (443, 8443), (90, 9090))),
    max_size=2,
    unique_by=lambda p: p[0],
).map(tuple)

workloads = st.builds(
    lambda name, ips, of, mapped, **more: workload(name, *ips, of=tuple(of), ports=mapped, **more),
    name=st.sampled_from(NAMES),
    ips=st.lists(st.sampled_from(IPS), max_size=2, unique=True),
    of=st.lists(st.sampled_from(KEYS), max_size=2, unique=True),
    mapped=ports,
    namespace=st.sampled_from(("default", "other")),
    profile=st.sampled_from(PLACES),
    healthy=st.sampled_from((True, True, True, False)),
    capacity=st.sampled_from((1, 1, 1, 2, 3, 0)),
)

services = st.builds(
    lambda key, vips, mapped, **more: service(key, *vips, ports=mapped, **more),
    key=st.sampled_from(KEYS),
    vips=st.lists(st.sampled_from(VIPS), max_size=3, unique=True),
    mapped=ports,
    mode=st.sampled_from(Mode),
    preference=st.sampled_from(
        ((), (Scope.NODE,), (Scope.REGION, Scope.ZONE), (Scope.NETWORK, Scope.NODE))
    ),
    allow_unhealthy=st.booleans(),
    families=st.sampled_from(Families),
    canonical=st.booleans(),
    visibility=st.sampled_from(Visibility),
    waypoint=st.sampled_from((None, None, None, Gateway(hostname="default/wp"))),
)

removals = st.one_of(
    st.sampled_from(KEYS),
    st.builds(uid, st.sampled_from(NAMES), st.sampled_from(("default", "other"))),
)

changes = st.one_of(
    workloads.map(lambda w: (w.uid, w)),
    services.map(lambda s: (s.key, s)),
    removals.map(lambda name: (name, None)),
)
