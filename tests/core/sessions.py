"""A session of delta xDS in a playbook: its events, and resources to send."""

from __future__ import annotations

from typing import NamedTuple

from kmesh.core.delta import Session
from kmesh.core.events import (
    ADDRESS,
    AUTHORIZATION,
    Applied,
    Commit,
    Envelope,
    Node,
    Offer,
    Request,
)
from kmesh.core.model import (
    Action,
    Authorization,
    Identity,
    PolicyScope,
    Profile,
    Rejected,
    Resource,
    Service,
    Workload,
)
from tests.playbook import Playbook

NODE = Node("ztunnel~1.1.1.1~agent.kube~kube.svc.cluster.local", "", {"NODE_NAME": "n1"})
OTHER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


class Connected(NamedTuple):
    """A stream opened."""


class Lost(NamedTuple):
    """The stream ended."""


class Part(NamedTuple):
    """Resources arrived."""

    resources: tuple[Resource, ...]


class Expired(NamedTuple):
    """The deadline of a revision passed."""

    revision: int


Event = Connected | Lost | Part | Expired | Envelope | Applied
Command = Offer | Commit | Request


def workload(name: str, version: str = "v1") -> Resource:
    value = Workload(name, Identity(), Profile(), (), ())
    return Resource(name, version, f"{name}@{version}".encode(), value)


def service(name: str, version: str = "v1") -> Resource:
    namespace, _, hostname = name.partition("/")
    return Resource(name, version, b"", Service(name, namespace, hostname, (), ()))


def policy(name: str) -> Resource:
    value = Authorization(name, "ns", PolicyScope.GLOBAL, Action.DENY, ())
    return Resource(name, "", b"policy", value)


def bad(name: str, reason: str = "an address has 4 or 16 bytes, not 3") -> Resource:
    return Resource(name, "v9", b"", Rejected(name, reason))


def play(session: Session) -> Playbook[Event, Command]:
    def handle(event: Event) -> list[Command]:
        match event:
            case Connected():
                return list(session.connected())
            case Lost():
                session.disconnected()
                return []
            case Part(resources):
                return list(session.part(resources))
            case Envelope():
                return session.finish(event, size=10)
            case Applied():
                return list(session.applied(event))
            case Expired(revision):
                return list(session.expire(revision))

    return Playbook(handle)


def first(type_url: str, **claims: str) -> Request:
    return Request(type_url, NODE, initial_versions=claims)


def started() -> tuple[Session, Playbook[Event, Command]]:
    session = Session(NODE)
    assert play(session) >> Connected() << first(ADDRESS) << first(AUTHORIZATION)
    return session, play(session)
