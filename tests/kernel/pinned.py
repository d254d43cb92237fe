"""Pinned maps that a test copies, damages and brings back, and pods that dial by what they hold."""

from __future__ import annotations

import gc
import os
import select
import socket
from contextlib import ExitStack, contextmanager
from ctypes import CDLL
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.abi.layout import SLOT_SIZE, Reason
from kmesh.bpf import lib, load, removal
from kmesh.bpf.fake import FakeKernel
from kmesh.bpf.sizes import Sizes
from kmesh.bpf.tables import KernelTables
from kmesh.core import addr
from kmesh.core.commands import CONFIG, VERDICT, Drop, Op, Phase, Put, WriteRows, WriteSlots
from kmesh.core.policy import Attempt
from tests.core.world import SLOTS, VIP_ROWS, VIPS, WORDS
from tests.held import Held, look
from tests.kernel.net import CLONE_NEWNET, TIMEOUT
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.core.commands import Command

SIZES = Sizes(
    vips=VIP_ROWS, slots=SLOTS, cidrs=64, pods=16, flows=64, max_vips=VIP_ROWS, max_slots=SLOTS,
    rows=WORDS, max_rows=WORDS,
)  # fmt: skip
IPS = tuple(f"10.1.0.{last}" for last in range(1, 7))
STRANGER = "10.1.0.9"
ADDRESSES = (*IPS, STRANGER)  # that a pod's namespace needs
OWN = ("10.1.0.1", "10.1.0.3", "10.1.0.2")  # of the pods of world.PODS
PASSES = {Reason.ALLOWED, Reason.EXEMPT, Reason.NOT_ENROLLED}


class Pod:
    """A namespace with a listener at every endpoint of the mesh."""

    def __init__(self, path: str, stack: ExitStack) -> None:
        self.path, self._fd = path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, self._fd)
        self.cookie = lib.netns_cookie(self._fd)
        self.enter()
        self._listeners = [
            stack.enter_context(socket.create_server((ip, port), backlog=64))
            for ip in IPS for port in (80, 8080, 8443)
        ]  # fmt: skip

    def enter(self) -> None:
        """Sockets are made in this namespace from now on."""
        assert CDLL(None).setns(self._fd, CLONE_NEWNET) == 0

    def dial(self, address: str, port: int, source: str = "") -> tuple[str, int] | None:
        """Where a connection arrives; None when it is refused."""
        with socket.socket() as client:
            client.settimeout(TIMEOUT)
            if source:
                client.bind((source, 0))
            try:
                client.connect((address, port))
            except TimeoutError:
                raise
            except OSError:
                return None
            (ready, *more), _, _ = select.select(self._listeners, [], [], TIMEOUT)
            assert not more
            connection, _ = ready.accept()
            with connection:
                host, number = connection.getsockname()
                return str(host), int(number)


class Rig:
    """The pinned maps, what lies in them, and how to bring that back."""

    def __init__(self, bpffs: str, pods: list[Pod]) -> None:
        self.plane, self.pods = load.start(bpffs, "", SIZES), pods
        self.cookies = [pod.cookie for pod in pods]

    def tables(self) -> KernelTables:
        """As an agent that starts opens them."""
        tables = KernelTables(self.plane)
        for pod in self.pods:
            tables.remember(pod.cookie, pod.path)
        return tables

    def copy(self) -> FakeKernel:
        """What the maps hold now."""
        tables, copy = self.tables(), FakeKernel(VIP_ROWS, SLOTS, WORDS)
        for name in copy.tables:
            copy.tables[name] = dict(tables.walk(name))
        copy.slots = bytearray(tables.scan().slots)
        copy.rows = bytearray(tables.row("km_row", bytes(4), 8 * WORDS) or b"")
        return copy

    def restore(self, wanted: FakeKernel) -> None:
        """Bring the maps back to what they held."""
        commands = [*self._lost(wanted, self.copy())]
        for i in range(SLOTS):
            slot = bytes(wanted.slots[SLOT_SIZE * i : SLOT_SIZE * (i + 1)])
            commands.append(WriteSlots(i, slot, int.from_bytes(slot[-2:], "little")))
        commands += [WriteRows(0, bytes(wanted.rows))]
        outcome = self.tables().apply([Op(Phase.CIDRS_ON, each, None) for each in commands])
        assert outcome.error is None, outcome.error

    def held(self) -> Held:
        """What must not grow; a pod that is enrolled has a pin of its own."""
        gc.collect()
        found = look(Path(self.plane.root))
        return found._replace(pins=found.pins - len(self.plane.guards.places()))

    def _lost(self, wanted: FakeKernel, found: FakeKernel) -> Iterator[Command]:
        for name, rows in wanted.tables.items():
            here = found.tables[name]
            if name != CONFIG:
                yield from (Drop(name, key) for key in here.keys() - rows.keys())
            for key, value in rows.items():
                if here.get(key) != value and not (name == VERDICT and key in here):
                    yield Put(name, key, value)

    def dials(self, kernel: FakeKernel, turn: int) -> int:
        """Connections of one pod after another meet what the copy says; how many were made."""
        pod, made = self.pods[turn % len(self.pods)], 0
        pod.enter()
        enrolled = kernel.tables["km_enrol"].get(pod.cookie.to_bytes(8, "little"))
        view = int.from_bytes(enrolled[4:8], "little") if enrolled else 0
        for vip in VIPS.values() if enrolled else ():
            ends = kernel.endpoints(addr.parse(vip), 80, view)
            may = {(addr.text(e.addr), e.port) for e in ends} if isinstance(ends, set) else {None}
            assert pod.dial(vip, 80) in may, (vip, may)
            made += 1
        own = OWN[turn % len(self.pods)]
        for port in (80, 8080):
            attempt = Attempt(addr.parse(STRANGER), addr.parse(own), port)
            passes = kernel.admit(pod.cookie, attempt).reason in PASSES
            self._comes_in(pod, own, port, passes)
            made += 1
        return made

    def _comes_in(self, pod: Pod, own: str, port: int, passes: bool) -> None:
        """A link that was removed is let go of a moment later by the kernel."""
        until(
            lambda: (pod.dial(own, port, STRANGER) is not None) == passes,
            lambda: (own, port, passes),
        )


@contextmanager
def rigged(bpffs: str, namespaces: list[str]) -> Iterator[Rig]:
    """Maps and programs below ``bpffs`` for pods in these namespaces, removed at the end."""
    with ExitStack() as stack:
        pods = [Pod(path, stack) for path in namespaces]
        stack.callback(removal.remove, bpffs)
        rig = Rig(bpffs, pods)
        stack.callback(rig.plane.close)
        yield rig
