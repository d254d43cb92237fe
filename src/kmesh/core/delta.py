"""One delta xDS session without IO: streams come and go, what is held stays.

The rules of this file:
- A resource is held from the moment its part of a response was read, whether or not the rest of
  the response ever arrives. Its own type decides, not the type of the response around it.
- A rejected resource is never held; the last good version stays held and in force.
- A response is answered once the writer reports its revision, in order: ACK, or NACK naming every
  bad resource of it. After the deadline it is NACKed as late, and answered again when it is done.
- The first answer for a type on a stream is complete, even an empty one: delta xDS has no other
  mark, and istiod sends it whole.
- Claimed names go only when the control plane removes them; names that were held and did not fit
  into the claims go when the first answer does not contain them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from kmesh.core.changes import Changes
from kmesh.core.events import ADDRESS, AUTHORIZATION, Commit, Offer, Request
from kmesh.core.held import Held, TypeStatistics
from kmesh.core.model import Authorization, Rejected, Service, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kmesh.core.events import Applied, Envelope, Node
    from kmesh.core.model import Resource

LATE = "not yet in the kernel when the deadline passed"

_TYPE_OF = {Workload: ADDRESS, Service: ADDRESS, Authorization: AUTHORIZATION}
# Node, type URL and framing of the first request beside its claims.
_MARGIN = 64 << 10
MOST_REFUSED = 10_000
# A NACK is read by people: beyond this the rest is counted instead of listed.
_ERROR_CHARS = 128 << 10


@dataclass(slots=True)
class _Pending:
    """A response that waits for its answer."""

    type_url: str
    nonce: str
    revision: int
    complete: bool
    rejected: dict[str, str]
    parts: list[tuple[Resource, ...]]
    late: bool = False

    def claim_from(self, left: dict[str, str]) -> None:
        """Move those names of ``left`` that came with this response to its rejected ones."""
        for part in self.parts:
            for resource in part:
                if resource.name in left:
                    self.rejected[resource.name] = left.pop(resource.name)


class Session:
    """Feed it what happens on the stream; send the Requests and pass on the rest, in order.

    ``failing`` is name to reason of what the writer last reported as not in the kernel; ``refused``
    the same of resources whose last version could not be taken (the first MOST_REFUSED of them).
    ``held`` says where the resources of a type are held, if not in a dict.
    """

    def __init__(
        self,
        node: Node,
        types: tuple[str, ...] = (ADDRESS, AUTHORIZATION),
        max_request_bytes: int = 4 << 20,
        held: Mapping[str, Held] | None = None,
    ) -> None:
        self._node = node
        self._budget = max_request_bytes - min(_MARGIN, max_request_bytes // 4)
        self._held = {type_url: Held() for type_url in types} | dict(held or {})
        self._pending: deque[_Pending] = deque()
        self._rejected: dict[str, str] = {}
        self._parts: list[tuple[Resource, ...]] = []
        self._unsynced = set(types)
        self._revision = 0
        self.changes = Changes(others=[held.changed_since for held in self._held.values()])
        self._revise()
        self.refused: dict[str, str] = {}
        self.failing: Mapping[str, str] = {}
        self.unknown_responses = 0
        self.unknown_resources = 0

    @property
    def synced(self) -> bool:
        """Whether the first answer of every type was applied once (bad resources named or not)."""
        return not self._unsynced

    def held(self, type_url: str) -> Mapping[str, Resource]:
        """Name to resource of one type; live, not a copy. Raises KeyError for another type."""
        return self._held[type_url].view

    def statistics(self) -> dict[str, TypeStatistics]:
        """Counters by type URL."""
        return {type_url: held.statistics() for type_url, held in self._held.items()}

    def connected(self) -> list[Request]:
        """A new stream is open: its first requests. Their claims must be encoded before anything
        else is fed here."""
        self.disconnected()
        requests, budget = [], self._budget
        for type_url, held in self._held.items():
            claims = held.claim(budget, self.failing.keys())
            requests.append(Request(type_url, self._node, initial_versions=claims))
        return requests

    def disconnected(self) -> None:
        """The stream ended: what it still owed is forgotten, what it brought is held."""
        self._pending.clear()
        self._rejected, self._parts = {}, []

    def part(self, resources: Sequence[Resource]) -> list[Offer]:
        """Resources of the response being read, as they arrive."""
        good: dict[str, list[Resource]] = {}
        for resource in resources:
            value = resource.value
            if isinstance(value, Rejected):
                self._rejected[resource.name] = value.reason
            elif value[0] != resource.name:
                # Removals name resources, not what is in them: it could never be removed.
                self._rejected[resource.name] = f"it says of itself that it is {value[0]!r}"
            else:
                good.setdefault(_TYPE_OF[type(value)], []).append(resource)
        offers = []
        for type_url, listed in good.items():
            held = self._held.get(type_url)
            if held is None:
                self.unknown_resources += len(listed)
                continue
            held.put(listed)
            offers.append(Offer(type_url, tuple(listed)))
            self._parts.append(offers[-1].upserts)
        offers += [Offer(kind, ()) for kind, held in self._held.items() if held.arrived()]
        return offers

    def finish(self, envelope: Envelope, size: int = 0) -> list[Offer | Commit | Request]:
        """The response whose parts were fed is whole; ``size`` is its length in bytes."""
        rejected, parts = self._rejected, self._parts
        self._rejected, self._parts = {}, []
        held = self._held.get(envelope.type_url)
        if held is None:
            self.unknown_responses += 1
            return [Request(envelope.type_url, nonce=envelope.nonce)]
        held.count(responses=1, bytes=size, rejected=len(rejected), removed=len(envelope.removed))
        out: list[Offer | Commit | Request] = []
        removed = self._removed(held, envelope, rejected)
        if removed:
            out.append(Offer(envelope.type_url, (), removed))
        self._revision += 1
        self._revise()
        names = [resource.name for part in parts for resource in part]
        self.changes.note(self._revision, [*names, *removed])
        taken = (held.changed_since(self._revision - 1) for held in self._held.values())
        self._note_refused(rejected, chain(names, removed, *taken))
        held.refused(rejected)
        complete, held.awaited = held.awaited, False
        self._pending.append(
            _Pending(envelope.type_url, envelope.nonce, self._revision, complete, rejected, parts)
        )
        out.append(Commit(envelope.type_url, self._revision, complete))
        return out

    def _note_refused(self, rejected: Mapping[str, str], settled: Iterable[str]) -> None:
        if self.refused:
            for name in settled:
                self.refused.pop(name, None)
        for name, why in rejected.items():
            if name in self.refused or len(self.refused) < MOST_REFUSED:
                self.refused[name] = why

    def _revise(self) -> None:
        for held in self._held.values():
            held.revise(self._revision + 1)

    @staticmethod
    def _removed(held: Held, envelope: Envelope, rejected: Mapping[str, str]) -> tuple[str, ...]:
        held.drop(envelope.removed)
        if not held.awaited:
            return envelope.removed
        # A rejected name was answered: its last good version stays in force.
        held.answered(rejected)
        swept = held.sweep()
        held.drop(swept)
        return envelope.removed + swept

    def applied(self, applied: Applied) -> list[Request]:
        """The writer's report: the answers that are now due, oldest first.

        A name that failed is named in the answer of the newest due response which brought it.
        """
        self.failing = applied.rejected
        due: list[_Pending] = []
        while self._pending and self._pending[0].revision <= applied.revision:
            due.append(self._pending.popleft())
        left = dict(applied.rejected)
        for pending in reversed(due):
            if not left:
                break
            pending.claim_from(left)
        for pending in due:
            if pending.complete:
                self._unsynced.discard(pending.type_url)
        return [self._answer(pending) for pending in due]

    def expire(self, revision: int) -> list[Request]:
        """The deadline of ``revision`` passed: a late NACK for each response up to it which the
        writer has not reported. They are answered again when it does."""
        requests = []
        for pending in self._pending:
            if pending.revision <= revision and not pending.late:
                pending.late = True
                requests.append(self._answer(pending, LATE))
        return requests

    def _answer(self, pending: _Pending, also: str = "") -> Request:
        error = describe(pending.rejected, also)
        if error:
            self._held[pending.type_url].count(nacks=1)
        return Request(pending.type_url, nonce=pending.nonce, error=error)


def describe(rejected: Mapping[str, str], also: str = "") -> str:
    """``name: reason; name: reason``; very long lists end with the number of those left out."""
    pieces, chars = [also] if also else [], len(also)
    for index, (name, reason) in enumerate(rejected.items()):
        chars += len(name) + len(reason) + 4
        if chars > _ERROR_CHARS:
            pieces.append(f"and {len(rejected) - index} more")
            break
        pieces.append(f"{name}: {reason}")
    return "; ".join(pieces)
