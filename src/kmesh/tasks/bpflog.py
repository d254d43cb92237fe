"""Reads the BPF programs' log from its ring and writes it to the agent's."""

from __future__ import annotations

import logging
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import LOG_SIZE, Log, LogLevel, Tally
from kmesh.bpf.ring import Ring
from kmesh.bpf.traffic import TrafficReader
from kmesh.core.bpflog import text
from kmesh.tasks.ring import BUDGET, TURN, Turn, keep_reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmesh.bpf.load import DataPlane
    from kmesh.core.bpflog import Names

log = logging.getLogger(__name__)

LEVELS = {
    LogLevel.ERROR: logging.ERROR,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.INFO: logging.INFO,
    LogLevel.DEBUG: logging.INFO,  # whoever asked the programs for it wants to see it
}
MOST = 200  # lines a second: the programs can say a million


class BpfLogStatistics(NamedTuple):
    """Lines read since start, by level; ``unwritten`` of them were too many a second; ``lost``
    since the ring was made because it was full."""

    lines: Mapping[str, int]
    unwritten: int
    lost: int


class BpfLog:
    """What the programs say; km_switch has the level down to which they do."""

    def __init__(self, plane: DataPlane, names: Names, most: int = MOST) -> None:
        self._ring = Ring(plane.maps["km_logs"], LOG_SIZE, TURN)
        self._counters = TrafficReader(plane)
        self._names, self._most = names, most
        self._lines: Counter[str] = Counter()
        self._unwritten = self._since = 0
        self._left, self._second = most, monotonic()

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            await keep_reading(self._ring, self._turn)
        finally:
            self._ring.close()

    def statistics(self) -> BpfLogStatistics:
        """For metrics and dumps."""
        lost = self._counters.tallies()[Tally.LOGS_LOST]
        return BpfLogStatistics(dict(self._lines), self._unwritten, lost)

    def _turn(self) -> Turn:
        end, count = monotonic() + BUDGET, 0
        while True:
            raw, more = self._ring.drain()
            count += len(raw) // LOG_SIZE
            for line in Log.unpack_many(raw):
                self._write(line)
            if not more or monotonic() >= end:
                return Turn(count, more)

    def _write(self, line: Log) -> None:
        level = LogLevel(min(line.level, LogLevel.DEBUG))
        self._lines[level.name.lower()] += 1
        now = monotonic()
        if now - self._second >= 1:
            if self._since:
                log.warning("%d more lines of the programs were not written", self._since)
            self._since, self._left, self._second = 0, self._most, now
        if not self._left:
            self._since += 1
            self._unwritten += 1
            return
        self._left -= 1
        log.log(LEVELS[level], "%s", text(line, self._names))
