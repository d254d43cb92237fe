"""Who is behind an id or an address: Istio's standard labels of a connection.

Names, order and meaning are those of ztunnel's TCP metrics; what is not known is ``unknown``, as
there. What a workload was called is remembered for a minute after it is gone: its last
connections are counted later than they end.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from kmesh.core.addr import is_ipv4
from kmesh.core.endpoints import target_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.core.steer import Steering

UNKNOWN = "unknown"
REMEMBERED = 12  # turns, of 5 seconds each
MOST = 1 << 16

LABELS = (
    "reporter",
    "source_workload", "source_canonical_service", "source_canonical_revision",
    "source_workload_namespace", "source_principal", "source_app", "source_version",
    "source_cluster",
    "destination_service", "destination_service_namespace", "destination_service_name",
    "destination_workload", "destination_canonical_service", "destination_canonical_revision",
    "destination_workload_namespace", "destination_principal", "destination_app",
    "destination_version", "destination_cluster",
    "request_protocol", "response_flags", "connection_security_policy",
)  # fmt: skip
PLACES = ("source_region", "source_zone", "destination_region", "destination_zone")

PLAINTEXT = "none"
"""``connection_security_policy``: nothing between pods is encrypted by this agent."""


class Names(NamedTuple):
    """A workload as telemetry shows it; ``workload`` is that of the deployment, ``pod`` its own."""

    pod: str = ""
    namespace: str = ""
    workload: str = ""
    canonical: str = ""
    revision: str = ""
    principal: str = ""
    cluster: str = ""
    region: str = ""
    zone: str = ""


class ServiceName(NamedTuple):
    """A service as telemetry shows it."""

    hostname: str = ""
    namespace: str = ""
    name: str = ""


class Ends(NamedTuple):
    """Who talks to whom: client and server with the service that the client asked for."""

    outbound: bool
    source: Names
    destination: Names
    service: ServiceName


NOBODY = Names()
NO_SERVICE = ServiceName()
K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Answers by key, kept for some turns after they could last be given; the oldest go first."""

    def __init__(self, find: Callable[[K], V | None], most: int = MOST) -> None:
        self._find, self._most = find, most
        self._known: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K, turn: int) -> V | None:
        """The answer now, else the last one if it is not too old."""
        found = self._find(key)
        if found is None:
            known = self._known.get(key)
            return known[0] if known is not None and turn - known[1] <= REMEMBERED else None
        self._known[key] = (found, turn)
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return found


class Labels:
    """Finds names; ``turn`` begins a new round of questions."""

    def __init__(
        self,
        steering: Steering,
        names: Callable[[str], Names | None],
        services: Callable[[str], ServiceName | None],
    ) -> None:
        """``names`` and ``services`` read what is held of a uid, and of ``namespace/hostname``."""
        self._steering = steering
        self._turn = 0
        self._pods: OrderedDict[int, str] = OrderedDict()
        self._nobody: set[int] = set()
        self._keys: dict[int, str] = {}
        self._named = Remembered(names)
        self._described = Remembered(services)
        self._owned = Remembered(self._owner)

    def turn(self) -> None:
        """From now on it is later; call it every five seconds at most."""
        self._turn += 1
        self._nobody.clear()
        self._keys.clear()
        self._learn_pods()

    def uid(self, workload: int) -> str:
        """Uid of a pod of this node by the id that the kernel knows it by; empty if unknown."""
        if workload not in self._pods and workload not in self._nobody:
            self._learn_pods()
            if workload not in self._pods:
                name = self._steering.workload_ids.name(workload)
                if name is None:
                    self._nobody.add(workload)
                else:
                    self._pods[workload] = name
        return self._pods.get(workload, "")

    def owner(self, addr: bytes) -> str:
        """Uid of the workload that owns an address of 16 bytes; empty if unknown."""
        return self._owned.get(addr, self._turn) or ""

    def names(self, uid: str) -> Names:
        """Names of a workload; empty ones if unknown."""
        return (self._named.get(uid, self._turn) if uid else None) or NOBODY

    def address(self, workload: int, like: bytes) -> bytes | None:
        """A pod's address of the same family as ``like``, by the id that the kernel knows it by."""
        found = self._steering.store.workloads.get(self.uid(workload))
        for each in found.addresses if found else ():
            if is_ipv4(each) == is_ipv4(like):
                return each
        return None

    def service(self, service: int) -> ServiceName:
        """A service by the id that the kernel knows it by; empty names if unknown."""
        return self.service_named(self.service_key(service))

    def service_named(self, key: str) -> ServiceName:
        """A service by ``namespace/hostname``."""
        return (self._described.get(key, self._turn) if key else None) or NO_SERVICE

    def service_key(self, service: int) -> str:
        """``namespace/hostname`` of an id, empty if unknown or 0."""
        if not service:
            return ""
        if service not in self._keys:
            # Ids lead back to names only by a search: once a turn is enough.
            self._keys[service] = self._steering.service_ids.name(service) or ""
        return self._keys[service]

    def serving(self, uid: str, port: int) -> str:
        """Key of the service that a client of this workload's port most likely asked for: the
        first of the workload's services with that target port, as ztunnel guesses."""
        store = self._steering.store
        workload = store.workloads.get(uid)
        for membership in workload.memberships if workload else ():
            service = store.services.get(membership.service)
            if service is None or workload is None:
                continue
            if any(target_port(service, each, workload) == port for each in service.ports):
                return service.key
        return ""

    def ends(self, outbound: bool, workload: int, remote: bytes, service: int, port: int) -> Ends:
        """Both ends of a pod's connection; ``port`` is the pod's own when it is the server."""
        uid = self.uid(workload)
        here, there = self.names(uid), self.names(self.owner(remote))
        if outbound:
            return Ends(True, here, there, self.service(service))
        key = self.service_key(service) or self.serving(uid, port)
        return Ends(False, there, here, self.service_named(key))

    def _learn_pods(self) -> None:
        """Ids are not used again: who had one is known as long as there is room."""
        pods = self._steering.pods
        for cookie, row in pods.rows.items():
            if cookie in pods.wanted:
                self._pods[row.workload] = pods.wanted[cookie]
                self._pods.move_to_end(row.workload)
        while len(self._pods) > MOST:
            self._pods.popitem(last=False)

    def _owner(self, addr: bytes) -> str | None:
        store = self._steering.store
        return store.claims.owner(store.home.network, addr)


def values(ends: Ends, flags: str) -> tuple[str, ...]:
    """The values for LABELS, and for PLACES when any of them is known."""
    source, destination, service = ends.source, ends.destination, ends.service
    found = (
        "source" if ends.outbound else "destination",
        *_side(source),
        service.hostname, service.namespace, service.name,
        *_side(destination),
        "tcp", flags, PLAINTEXT,
    )  # fmt: skip
    places = (source.region, source.zone, destination.region, destination.zone)
    if any(places):
        found = (*found, *places)
    return tuple([value or UNKNOWN for value in found])


def label_names(values: tuple[str, ...]) -> tuple[str, ...]:
    """The names that belong to ``values``."""
    return LABELS if len(values) == len(LABELS) else (*LABELS, *PLACES)


def _side(one: Names) -> tuple[str, ...]:
    return (
        one.workload, one.canonical, one.revision, one.namespace, one.principal,
        one.canonical, one.revision, one.cluster,
    )  # fmt: skip
