"""What the edges tell the core, and what the core tells them to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmesh.core.model import Resource

ADDRESS = "type.googleapis.com/istio.workload.Address"
AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


class Node(NamedTuple):
    """Who asks: node id as ``ztunnel~<ip>~<pod>.<namespace>~<namespace>.svc.cluster.local``."""

    id: str
    cluster: str
    metadata: Mapping[str, Json]


class Request(NamedTuple):
    """One DeltaDiscoveryRequest. ``node`` only in the first request of a type on a stream;
    ``error`` non-empty makes it a NACK."""

    type_url: str
    node: Node | None = None
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = {}
    nonce: str = ""
    error: str = ""


class Envelope(NamedTuple):
    """Everything of a DeltaDiscoveryResponse but its resources."""

    type_url: str
    nonce: str
    removed: tuple[str, ...] = ()
    system_version: str = ""


class Offer(NamedTuple):
    """Give these to the writer: good resources to put, names to remove (of one type)."""

    type_url: str
    upserts: tuple[Resource, ...]
    removed: tuple[str, ...] = ()


class Commit(NamedTuple):
    """A response ended: once everything offered so far is in the kernel, report ``revision``.

    ``complete`` is true when the first answer for ``type_url`` on this stream is now whole, so
    that everything of this type which was not offered may be deleted.
    """

    type_url: str
    revision: int
    complete: bool


class Applied(NamedTuple):
    """The writer's answer: all up to ``revision`` is in the kernel but ``rejected`` (name: why)."""

    revision: int
    rejected: Mapping[str, str]
