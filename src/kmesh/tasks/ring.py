"""Reads the kernel's records of denied connections, a turn at a time."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import anyio

from kmesh.abi.layout import EVENT_SIZE
from kmesh.bpf.ring import Ring
from kmesh.core.records import Denial, denial, events

if TYPE_CHECKING:
    from kmesh.core.steer import Steering

log = logging.getLogger(__name__)

EVERY = 0.1  # seconds; records wake nobody, which costs the kernel a tenth
KEPT = 256
TURN = 256  # records, a few milliseconds


class RingStatistics(NamedTuple):
    """Records read since start."""

    records: int


class DenialReader:
    """Logs denials, and keeps the last of them for dumps."""

    def __init__(self, fd: int, steering: Steering) -> None:
        self.last: deque[Denial] = deque(maxlen=KEPT)
        self._ring = Ring(fd, EVENT_SIZE, TURN)
        self._steering = steering
        self._records = 0

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                raw, more = self._ring.drain()
                for event in events(raw):
                    self._take(denial(event, self._steering))
                await anyio.sleep(0 if more else EVERY)
        finally:
            self._ring.close()

    def statistics(self) -> RingStatistics:
        """For metrics and dumps."""
        return RingStatistics(self._records)

    def _take(self, found: Denial) -> None:
        self._records += 1
        self.last.append(found)
        log.info(
            "%s %s %s (%s) -> %s (%s): %s%s%s",
            "would deny" if found.dry_run else "denied", found.protocol, found.source,
            found.source_workload or "unknown", found.destination,
            found.destination_workload or "unknown", found.reason,
            f" by {found.policy}" if found.policy else "",
            f", and {found.suppressed} more" if found.suppressed else "",
        )  # fmt: skip
