"""What people call the ends of a connection: addresses, workloads, services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.core import addr
from kmesh.core.route_why import Ends
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    from kmesh.core.model import Service, Workload
    from kmesh.core.steer import Steering
    from kmesh.core.store import Store


SEVERAL = 5  # names that an error lists


class UnknownEnd(KmeshError):
    """An end of a connection that nobody knows."""

    code = "KM1803"
    next_step = (
        "Give an address, a pod as namespace/name or a workload by its uid, or a service as "
        "name.namespace or by its host name."
    )


def ends(steering: Steering, source: str, destination: str, port: int | None) -> Ends:
    """Both ends with addresses of one family. Raises UnknownEnd naming what is wrong."""
    store = steering.store
    target, ports = _destination(store, destination)
    if port is None:
        if len(ports) != 1:
            known = f"it has {', '.join(map(str, ports))}" if ports else "it is no service"
            raise UnknownEnd(f"{destination} needs a port: {known}", "Write HOST:PORT.")
        port = ports[0]
    client, addresses = _source(store, source)
    ipv4 = addr.is_ipv4(target[0])
    mine = next((each for each in addresses if addr.is_ipv4(each) == ipv4), addresses[0])
    there = next((t for t in target if addr.is_ipv4(t) == addr.is_ipv4(mine)), target[0])
    cookies = {uid: cookie for cookie, uid in steering.pods.wanted.items()}
    return Ends(mine, client, cookies.get(client.uid) if client else None, there, port)


def split(text: str) -> tuple[str, int | None]:
    """``host:port``, ``[v6]:port`` or a host; raises UnknownEnd for a port that is none."""
    if text.count(":") > 1 and not text.startswith("["):
        return text, None
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text.strip("[]"), None
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UnknownEnd(f"{port!r} is no port", "Ports are from 1 to 65535.")
    return host.strip("[]"), int(port)


def _source(store: Store, text: str) -> tuple[Workload | None, tuple[bytes, ...]]:
    raw = _address(text)
    if raw is not None:
        uid = store.claims.owner(store.home.network, raw)
        return store.workloads.get(uid or ""), (raw,)
    found = _workload(store, text)
    if found is None:
        raise UnknownEnd(f"there is no workload {text!r}")
    if not found.addresses:
        raise UnknownEnd(f"{text} has no address")
    return found, found.addresses


def _destination(store: Store, text: str) -> tuple[tuple[bytes, ...], list[int]]:
    """Addresses, and the ports of a service."""
    raw = _address(text)
    service = None if raw is not None else _service(store, text)
    if raw is not None:
        found = store.claimants.get((raw, 128), ())
        service = store.services[found[0]] if found else None
        return (raw,), [port.service for port in service.ports] if service else []
    if service is not None:
        vips = tuple(vip for vip, _ in store.frontends_of(service))
        if not vips:
            raise UnknownEnd(f"{text} has no address on this network")
        return vips, [port.service for port in service.ports]
    workload = _workload(store, text)
    if workload is None or not workload.addresses:
        raise UnknownEnd(f"there is no service and no workload {text!r}")
    return workload.addresses, []


def _address(text: str) -> bytes | None:
    try:
        return addr.parse(text)
    except ValueError:
        return None


def _workload(store: Store, text: str) -> Workload | None:
    """By uid, the pod called ``namespace/name``, or the only one that is called ``name``. Raises
    UnknownEnd when there are several."""
    if text in store.workloads:
        return store.workloads[text]
    if text.count("/") == 1:
        ending = f"//Pod/{text}"
        return store.workloads.get(next((u for u in store.workloads if u.endswith(ending)), ""))
    if "/" in text or not text:
        return None
    found = [uid for uid in store.workloads if uid.endswith(f"/{text}") and "//Pod/" in uid]
    if len(found) > 1:
        names = sorted("/".join(uid.split("/")[-2:]) for uid in found)[:SEVERAL]
        several = f"{len(found)} pods are called {text}: {', '.join(names)}"
        raise UnknownEnd(several, "Write namespace/name.")
    return store.workloads[found[0]] if found else None


def _service(store: Store, text: str) -> Service | None:
    """By key, host name, ``name.namespace`` or ``namespace/name``."""
    if text in store.services:
        return store.services[text]
    namespace, slash, name = text.rpartition("/")
    starts = (f"{name}.{namespace}.svc.",) if slash else (f"{text}.svc.", f"{text}.")
    for service in store.services.values():
        if service.hostname == text:
            return service
    return next((s for s in store.services.values() if s.hostname.startswith(starts)), None)
