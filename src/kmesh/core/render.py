"""What the kernel should answer at one service address, for every kind of client."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Reason, VipAction, pack_vip_key
from kmesh.core.endpoints import Endpoints
from kmesh.core.model import Mode, Profile, Visibility
from kmesh.core.quick import NEW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kmesh.core.endpoints import Select
    from kmesh.core.model import Service
    from kmesh.core.store import Frontend, Store

VIEWS = 1
"""Flag of a record: some clients have a record of their own (KM_VIP_VIEWS)."""


class View(NamedTuple):
    """Clients that must get equal answers: those of one namespace at one place."""

    namespace: str
    profile: Profile


class Target(NamedTuple):
    """What a record should say; ``slots`` are 24 bytes each with gen 0."""

    action: VipAction
    reason: Reason
    service: int
    port: int = 0
    slots: bytes = b""
    flags: int = 0


Rows = dict[bytes, Target]
"""Packed km_vip_key to target."""

# A member of an enumeration is looked up by a function of its own: ten times a name's time.
_BALANCE, _REFUSE = VipAction.BALANCE, VipAction.REFUSE
_UNKNOWN_PORT, _PASSTHROUGH, _PUBLIC = Reason.UNKNOWN_PORT, Mode.PASSTHROUGH, Visibility.PUBLIC

ABSENT = Target(VipAction.PASS, Reason.INVISIBLE, 0)


class Render:
    """Turns a frontend into rows. ``service_id`` and ``workload_id`` give the ids of names;
    ``select`` is a roster's, for its own ids."""

    def __init__(
        self,
        store: Store,
        service_id: Callable[[str], int],
        workload_id: Callable[[str], int],
        bypass_waypoints: bool = False,
        select: Select | None = None,
    ) -> None:
        self._store = store
        self._service_id = service_id
        self._workload_id = workload_id
        self._bypass_waypoints = bypass_waypoints
        self._select = select

    def rows(self, frontend: Frontend, views: Mapping[int, View]) -> Rows:
        """Rows of one frontend; empty when no service has it. ``views`` has ids from 1."""
        store = self._store
        keys = store.claimants.get(frontend)
        if keys is None:
            return {}
        services = [store.services[key] for key in keys]
        default = self._ports(frontend, NEW(View, ("", store.home)), services)
        own = {
            id_: self._ports(frontend, view, services)
            for id_, view in views.items()
            if store.sensitive(frontend, view.profile)
        }
        if not own:
            addr, plen = frontend
            return {
                pack_vip_key(addr, 0, port, plen, 0): target for port, target in default.items()
            }
        every = {port for ports in (default, *own.values()) for port in ports}
        rows: Rows = {}
        for port in every:
            base = answer(default, port)
            differing = {id_: answer(ports, port) for id_, ports in own.items()}
            differing = {id_: target for id_, target in differing.items() if target != base}
            for id_, target in differing.items():
                rows[_key(frontend, port, id_)] = target
            rows[_key(frontend, port, 0)] = base._replace(flags=VIEWS) if differing else base
        return rows

    def _ports(self, frontend: Frontend, view: View, services: list[Service]) -> dict[int, Target]:
        service = choose(services, view.namespace)
        if service is None:
            return {0: ABSENT}
        id_ = self._service_id(service.key)
        if service.waypoint is not None and not self._bypass_waypoints:
            return {0: Target(VipAction.REFUSE, Reason.WAYPOINT, id_)}
        if service.mode is _PASSTHROUGH:
            return {0: Target(VipAction.PASS, Reason.PASSTHROUGH, id_)}
        ports = {0: NEW(Target, (_REFUSE, _UNKNOWN_PORT, id_, 0, b"", 0))}
        endpoints = Endpoints(
            self._store, service, frontend, view.profile, self._workload_id, self._select
        )
        for number, (slots, port, reason) in endpoints.targets():
            action = _BALANCE if slots else _REFUSE
            ports[number] = NEW(Target, (action, reason, id_, port, slots, 0))
        return ports


def answer(ports: Mapping[int, Target], port: int) -> Target:
    """The record that a look-up of ``port`` meets: its own, else the one of any other port."""
    return ports.get(port, ports[0])


def choose(services: list[Service], namespace: str) -> Service | None:
    """Of the services at one address, the one a client of ``namespace`` means.

    Visible ones only; then the client's own namespace, then canonical, then the smallest key.
    """
    if len(services) == 1 and services[0].visibility is _PUBLIC:
        return services[0]
    visible = [
        service
        for service in services
        if service.visibility is Visibility.PUBLIC or service.namespace == namespace
    ]
    if not visible:
        return None
    return min(visible, key=lambda s: (s.namespace != namespace, not s.canonical, s.key))


def _key(frontend: Frontend, port: int, view: int) -> bytes:
    return pack_vip_key(frontend[0], view, port, frontend[1], 0)
