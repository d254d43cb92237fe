"""More records than connections could make: a program of our own writes them into the agent's ring,
with the counters that belong to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks._stage import SOURCES, Place, Stage, run
from kmesh.abi.layout import Direction, Enrol, Event, EventKind, Vip
from kmesh.bpf import lib
from kmesh.bpf.objects import FOLDER
from kmesh.core import addr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MOST = 16  # samples, as in flood.bpf.c
CPU = 1


class Flood:
    """Records of connections between the enrolled pods and ``peers``, as the agent names them."""

    def __init__(self, stage: Stage, bpffs: Path, peers: Sequence[str]) -> None:
        self._stage, self._maps = stage, bpffs / "kmesh/maps"
        self._program = stage.compile("flood", "-lbpf")
        self._object = compiled(stage)
        self._samples = stage.folder / "samples"
        found = list(self._records(peers))[:MOST]
        raw = b"".join(each.pack() for each in found)
        self._samples.write_bytes(len(found).to_bytes(8, "little") + raw)

    def run(self, rate: int, seconds: float) -> dict[str, Any]:
        """``made`` records in ``seconds``, those included for which the ring had no room."""
        command = [self._program, self._object, str(self._maps), str(self._samples), str(rate)]
        place = Place(cpu=CPU)
        found: dict[str, Any] = json.loads(
            self._stage.run([*command, str(round(seconds * 1000))], place)
        )
        return found

    def _records(self, peers: Sequence[str]) -> Iterator[Event]:
        workloads = {Enrol.unpack(value).workload for _, value in self._rows("km_enrol")}
        service = max(Vip.unpack(value).service for _, value in self._rows("km_vip"))
        for workload in sorted(workloads):
            for peer in peers:
                yield sample(workload, peer, service, Direction.OUTBOUND)
                yield sample(workload, peer, 0, Direction.INBOUND)

    def _rows(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        fd = lib.pinned(str(self._maps / name))
        assert fd is not None
        yield from lib.rows(fd)


def sample(workload: int, peer: str, service: int, direction: Direction) -> Event:
    """A connection that carried a little; the program sets its times and the client's port."""
    return Event(
        time=0, start=0, socket=0, sent=64, received=64, suppressed=0,
        local=addr.parse("10.1.1.1"), remote=addr.parse(peer), vip=bytes(16), workload=workload,
        service=service, policy=0, rtt_us=250, min_rtt_us=100, retransmits=0, lost=0,
        local_port=8080, remote_port=8080, vip_port=0, error=0, kind=EventKind.CLOSE, reason=0,
        protocol=6, direction=direction,
    )  # fmt: skip


def compiled(stage: Stage) -> str:
    """Path of the program's object."""
    triplet = run(["gcc", "-print-multiarch"]).strip()
    target = str(stage.folder / "flood.bpf.o")
    flags = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror", "-Wno-sign-compare"]
    includes = [f"-I{FOLDER}", f"-I/usr/include/{triplet}"]
    run(["clang", *flags, *includes, "-c", str(SOURCES / "flood.bpf.c"), "-o", target])
    return target
