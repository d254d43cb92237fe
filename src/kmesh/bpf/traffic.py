"""The kernel's counters of connections, read a slice at a time."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from kmesh.abi.layout import TRAFFIC_SIZE, Tally, Traffic
from kmesh.bpf import lib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.bpf.load import DataPlane

SLICE = 256
WORDS = TRAFFIC_SIZE // 8


class TrafficReader:
    """Reads km_traffic and km_tallies of a data plane, whichever maps it has by then."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._cpus = lib.possible_cpus()
        self._words = Struct(f"<{WORDS * self._cpus}Q")
        self._seen: dict[bytes, tuple[int, Traffic]] = {}  # by hashes: values are large

    def slices(self) -> Iterator[list[tuple[bytes, Traffic]]]:
        """Every row by packed key, summed over CPUs; what changes meanwhile may be missing. Rows
        that rest, which are most, are not added up again: nothing else costs as much."""
        some: list[tuple[bytes, Traffic]] = []
        seen, self._seen = self._seen, {}
        for key, value in lib.rows(self._plane.maps["km_traffic"]):
            found = seen.get(key)
            if found is None or found[0] != hash(value):
                found = hash(value), self._sum(value)
            self._seen[key] = found
            some.append((key, found[1]))
            if len(some) == SLICE:
                yield some
                some = []
        yield some

    def _sum(self, value: bytes) -> Traffic:
        words = self._words.unpack(value)
        return Traffic(*(sum(words[i::WORDS]) for i in range(WORDS)))

    def tallies(self) -> dict[Tally, int]:
        """How often each thing happened to rows and records."""
        fd = self._plane.maps["km_tallies"]
        size = 8 * self._cpus
        counters = Struct(f"<{self._cpus}Q")
        found = {}
        for tally in Tally:
            raw = lib.lookup(fd, tally.to_bytes(4, "little"), size)
            found[tally] = sum(counters.unpack(raw)) if raw else 0
        return found

    def made(self) -> dict[str, int]:
        """Rows of LRU maps that were made and not dropped by the programs themselves, by map."""
        found = self.tallies()
        return {
            "km_flow": found[Tally.FLOWS],
            "km_avoid": found[Tally.AVOIDED] - found[Tally.FORGIVEN],
        }
