"""The data plane: adopt what is pinned or begin, grow, change to another generation of tables.

Pins lie in ``<bpffs>/kmesh/``: maps under ``maps/``, links under ``links/``. Everything is loaded
and filled before anything is attached, so what fails changes nothing.
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING

from kmesh.abi.layout import FINGERPRINT, Meta
from kmesh.bpf import carry, copies, lib, links, loader, mounts, pins, sieve
from kmesh.bpf.netns import NamespaceLinks
from kmesh.bpf.objects import GROWING, META, SWEEPS
from kmesh.bpf.sockets import Sockets
from kmesh.errors import BpfError, CapacityError

if TYPE_CHECKING:
    from kmesh.bpf.sizes import Sizes

log = logging.getLogger(__name__)
close = loader.close


class DataPlane:
    """The loaded programs, their maps by name, and the pinned links.

    ``waits`` names the families of tables that the control plane has to fill before ``switch``:
    until then the programs of the build before go on with the tables they have."""

    def __init__(self, bpffs: str, cgroup2: str, sizes: Sizes, lock: int) -> None:
        self.root = f"{bpffs}/kmesh"
        self.maps: dict[str, int] = {}
        self.programs: dict[str, int] = {}
        self.waits: tuple[str, ...] = ()
        self.guards = NamespaceLinks(f"{self.root}/links")
        self._swap = Lock()
        self._replaced: list[int] = []
        self._cgroup2 = cgroup2
        self._sizes = sizes
        self._lock = [lock]

    def grow(self, vips: int, slots: int) -> None:
        """Load the programs once more over bigger tables with equal contents, swap, drop the old.

        Raises CapacityError when a limit forbids it, BpfError when the kernel does; then nothing
        was changed.
        """
        have = {name: lib.map_info(self.maps[name]).max_entries for name in GROWING}
        want = {"km_vip": max(vips, have["km_vip"]), "km_slot": max(slots, have["km_slot"])}
        for name, limit in (("km_vip", self._sizes.max_vips), ("km_slot", self._sizes.max_slots)):
            if want[name] > max(limit, have[name]):
                option = f"--max-{name.removeprefix('km_')}s"
                sentence = f"{name} would need {want[name]} rows, {option} is {limit}"
                raise CapacityError(sentence, limit)
        grown = {name: size for name, size in want.items() if size > have[name]}
        if grown:
            self.replace(grown)

    def replace(self, sizes: dict[str, int]) -> None:
        """Bigger maps of these names with equal contents under the running programs.

        Raises BpfError; then nothing was changed.
        """
        kept = {name: fd for name, fd in self.maps.items() if name not in sizes}
        maps, programs = loader.load(kept, sizes)
        try:
            for name in sizes:
                copies.copy(self.maps[name], maps[name])
            self.put(maps, programs)
        except BaseException:
            close([*maps.values(), *programs.values()])
            raise
        with self._swap:
            self._replaced += [*self.programs.values(), *self.maps.values()]
            self.programs, self.maps = programs, maps

    def release(self) -> None:
        """Let go of what was replaced: where nobody is in the middle of using it, on the loop."""
        close(self._replaced)
        self._replaced = []

    def adopt(self) -> None:
        """Load the programs over what is pinned, and take over from those that are attached."""
        old = pins.opened(self.root)
        try:
            plan = carry.plan(old, self._sizes)
            used = {name: old[name] for name in plan.used}
            self.maps, self.programs = loader.load(used, plan.entries)
            carry.fill(plan, old, self.maps)
            sieve.fill(self.maps)
            lib.update(self.maps[META], bytes(4), Meta(FINGERPRINT, 0).pack())
            self.waits = plan.filled
            if used.keys() == self.maps.keys() == old.keys():
                self.attach()
            else:
                self.put(self.maps, self.programs)
            if plan.foreign and not self.waits:
                links.leave(self.guards.folder, self.programs)
        finally:
            close(old.values())

    def switch(self) -> None:
        """The tables are filled: put them in force. Raises SwitchFailed, BpfError."""
        self.waits = ()
        self.put(self.maps, self.programs)
        links.leave(self.guards.folder, self.programs)

    def attach(self) -> None:
        """Put the programs behind all links, and make those that are missing. Raises
        SwitchFailed."""
        links.switch(self.guards, self._cgroup2, self.programs)

    def put(self, maps: dict[str, int], programs: dict[str, int]) -> None:
        """Pin these maps as the generation in force and put the programs behind the links."""
        pins.stage(self.root, maps)
        if self.waits:
            return
        pins.commit(self.root)
        try:
            links.switch(self.guards, self._cgroup2, programs)
        except BaseException:
            pins.back(self.root)
            raise
        pins.drop(self.root, pins.OLD)

    def grow_rows(self, words: int) -> None:
        """As ``grow``, for km_row."""
        have = lib.map_info(self.maps["km_row"]).max_entries
        if words > max(self._sizes.max_rows, have):
            sentence = f"km_row would need {words} words, --max-policy-words is "
            raise CapacityError(f"{sentence}{self._sizes.max_rows}", self._sizes.max_rows)
        if words > have:
            self.replace({"km_row": words})

    def iterate(self, name: str, cookie: int) -> bool:
        """Run an iterator over the sockets of a namespace; False when this kernel refused the
        program. A namespace that is gone has no sockets. Enters it: run in a thread of its own."""
        if name not in self.programs:
            return False
        with ExitStack() as stack:
            with self._swap:
                program = os.dup(self.programs[name])
            stack.callback(os.close, program)
            netns = self.guards.open(cookie)
            if netns is not None:
                stack.callback(os.close, netns)
                lib.run_iterator(program, netns)
        return True

    def sweep(self) -> None:
        """Count what all open connections have carried so far. Takes a while: run in a thread."""
        for name, where in SWEEPS.items():
            with self._swap:
                program, kept = os.dup(self.programs[name]), os.dup(self.maps[where])
            try:
                lib.run_map_iterator(program, kept)
            finally:
                close([program, kept])

    def sockets(self, cookie: int) -> Sockets | None:
        """The sockets of a pod's namespace, None when it is gone; as ``iterate``, in a thread of
        its own."""
        netns = self.guards.open(cookie)
        if netns is None:
            return None
        try:
            return Sockets(netns)
        finally:
            os.close(netns)

    def close(self) -> None:
        """Let go of everything; pins, and with them programs and maps, stay. Again is harmless."""
        self.release()
        close([*self.maps.values(), *self.programs.values(), *self._lock])
        self.maps, self.programs, self._lock = {}, {}, []


def start(bpffs: str, cgroup2: str, sizes: Sizes) -> DataPlane:
    """Adopt what is pinned, or begin: lock, load, carry over, pin, attach, in this order.

    Raises MountError, AlreadyRunning, ProgramRefused, NotCarried, SwitchFailed or BpfError; what
    was attached stays so.
    """
    bpffs = mounts.require(mounts.BPFFS, bpffs, "--bpf-fs-path")
    cgroup2 = mounts.require(mounts.CGROUP2, cgroup2 or mounts.find_cgroup2(), "--cgroup2-path")
    try:
        os.makedirs(f"{bpffs}/kmesh/links", mode=0o700, exist_ok=True)
        plane = DataPlane(bpffs, cgroup2, sizes, mounts.lock(f"{bpffs}/kmesh"))
        try:
            pins.recover(plane.root)
            plane.adopt()
        except BaseException:
            plane.close()
            raise
    except OSError as error:
        raise BpfError(f"{error.filename}: {error.strerror}", error.errno or 0) from error
    return plane
