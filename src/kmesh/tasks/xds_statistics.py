"""What the xDS client counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kmesh.tasks.ending import Ended

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmesh.core.delta import Session
    from kmesh.core.held import TypeStatistics
    from kmesh.wire.errors import WireError


class XdsStatistics(NamedTuple):
    """Times are Unix seconds, 0 for never; bytes are of gRPC messages.

    ``since`` is when ``connected`` last changed. ``last_heard`` is of any byte, be it the answer
    to a ping. ``ends`` counts ended streams and failed attempts by ``Ended.reason``. ``late``
    responses were not in the kernel at their deadline. ``types`` is by type URL.
    """

    connected: bool
    since: float
    synced: bool
    attempts: int
    ends: Mapping[str, int]
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    last_message: float
    last_heard: float
    last_error: str
    last_error_time: float
    unknown_frames: int
    unknown_responses: int
    unknown_resources: int
    late: int
    types: Mapping[str, TypeStatistics]


@dataclass(slots=True)
class Counters:
    """The running numbers behind XdsStatistics."""

    since: float
    connected: bool = False
    attempts: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    unknown_frames: int = 0
    late: int = 0
    last_message: float = 0.0
    last_heard: float = 0.0
    last_error: str = ""
    last_error_time: float = 0.0
    ends: Counter[str] = field(default_factory=Counter)

    def turned(self, connected: bool, now: float) -> None:
        """The stream opened, or is over."""
        if connected != self.connected:
            self.connected, self.since = connected, now

    def ended(self, end: Ended | WireError, now: float) -> str:
        """Count an end; returns its reason."""
        reason = end.reason if isinstance(end, Ended) else "decode"
        self.ends[reason] += 1
        self.last_error, self.last_error_time = str(end), now
        return reason

    def statistics(self, session: Session) -> XdsStatistics:
        """A snapshot."""
        return XdsStatistics(
            connected=self.connected,
            since=self.since,
            synced=session.synced,
            attempts=self.attempts,
            ends=dict(self.ends),
            messages_in=self.messages_in,
            messages_out=self.messages_out,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            last_message=self.last_message,
            last_heard=self.last_heard,
            last_error=self.last_error,
            last_error_time=self.last_error_time,
            unknown_frames=self.unknown_frames,
            unknown_responses=session.unknown_responses,
            unknown_resources=session.unknown_resources,
            late=self.late,
            types=session.statistics(),
        )
