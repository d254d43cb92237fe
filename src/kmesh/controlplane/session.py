"""One client's delta stream: what it asked, what it was told, what it acknowledged. No sockets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from kmesh.controlplane import envelope
from kmesh.controlplane.state import Subscription
from kmesh.core.events import ADDRESS, AUTHORIZATION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kmesh.controlplane.envelope import Incoming
    from kmesh.controlplane.state import Delta, Entry

log = logging.getLogger(__name__)
ORDER = {ADDRESS: 0, AUTHORIZATION: 1}
NAMES_SHOWN = 5


class Sent(NamedTuple):
    """A response that waits for its ACK or NACK."""

    type_url: str
    delta: Delta


class Nack(NamedTuple):
    """A refused response: the client's message and the names that were in the response."""

    type_url: str
    message: str
    names: tuple[str, ...]


class SessionStatistics(NamedTuple):
    """Counts of one stream; ``pending`` responses are neither acknowledged nor refused yet."""

    peer: str
    node: str
    responses: int
    resources: int
    removals: int
    acks: int
    nacks: int
    stale: int
    pending: int


class ProtocolFault(Exception):
    """The client broke the protocol; the text is for the gRPC status."""


class Session:
    """State of one stream: requests go into :meth:`receive`, responses come from :meth:`next`."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.node = ""
        self.last_nack: Nack | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._sent: dict[str, Sent] = {}
        self._nonces = self._resources = self._removals = 0
        self._acks = self._nacks = self._stale = 0

    def receive(self, request: Incoming) -> None:
        """Take one request; raises ProtocolFault when the stream must end."""
        if not request.type_url:
            raise ProtocolFault("a request without a type URL")
        if not self.node:
            if not request.node:
                raise ProtocolFault("the first request has no node id")
            self.node = request.node
            log.info("%s: node %s", self.peer, self.node)
        if request.nonce:
            self._answered(request)
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            subscription = self._subscriptions[request.type_url] = Subscription()
            subscription.begin(request.subscribe, request.versions)
            subscription.amend((), request.unsubscribe)
        else:
            subscription.amend(request.subscribe, request.unsubscribe)

    def _answered(self, request: Incoming) -> None:
        sent = self._sent.pop(request.nonce, None)
        if sent is None or sent.type_url != request.type_url:
            self._stale += 1
            log.debug("%s: stale nonce %s", self.peer, request.nonce)
        elif request.error is None:
            self._acks += 1
            log.debug("%s: ACK %s %s", self.peer, request.nonce, short(request.type_url))
        else:
            self._nacks += 1
            names = (*sent.delta.changed, *sent.delta.removed)
            self.last_nack = Nack(request.type_url, request.error, names)
            log.warning(
                "%s: NACK %s %s: %s; the response had %s",
                self.peer,
                request.nonce,
                short(request.type_url),
                request.error or "no reason given",
                listing(names),
            )

    def touch(self, type_url: str, names: Iterable[str]) -> None:
        """These resources changed."""
        subscription = self._subscriptions.get(type_url)
        if subscription is not None:
            subscription.touch(names)

    @property
    def due(self) -> bool:
        """Whether :meth:`next` has something to say."""
        return any(one.due for one in self._subscriptions.values())

    def next(self, state: Mapping[str, Mapping[str, Entry]]) -> bytes | None:
        """The next encoded response from the current state, Address first; None when up to date."""
        for type_url in sorted(self._subscriptions, key=lambda url: ORDER.get(url, 2)):
            subscription = self._subscriptions[type_url]
            if subscription.due:
                current = state.get(type_url, {})
                return self._response(type_url, subscription.take(current), current)
        return None

    def _response(self, type_url: str, delta: Delta, current: Mapping[str, Entry]) -> bytes:
        self._nonces += 1
        nonce = str(self._nonces)
        self._sent[nonce] = Sent(type_url, delta)
        self._resources += len(delta.changed)
        self._removals += len(delta.removed)
        log.info(
            "%s: response %s %s: %d resources, %d removed",
            self.peer,
            nonce,
            short(type_url),
            len(delta.changed),
            len(delta.removed),
        )
        items = (envelope.Item(name, *current[name]) for name in delta.changed)
        return envelope.response(type_url, nonce, items, delta.removed)

    def statistics(self) -> SessionStatistics:
        """Counts so far."""
        return SessionStatistics(
            self.peer,
            self.node,
            self._nonces,
            self._resources,
            self._removals,
            self._acks,
            self._nacks,
            self._stale,
            len(self._sent),
        )


def short(type_url: str) -> str:
    """``Address`` of ``type.googleapis.com/istio.workload.Address``."""
    return type_url.rpartition(".")[2]


def listing(names: tuple[str, ...]) -> str:
    """The first names and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
