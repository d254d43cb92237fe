"""Load, pin, attach, replace and grow the programs.

Pins lie in ``<bpffs>/kmesh/``: maps under ``maps/``, links under ``links/``. Everything is loaded
before anything is attached, so a kernel that refuses a program changes nothing.
"""

from __future__ import annotations

import logging
import mmap
import os
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import FINGERPRINT, META_SIZE, Meta
from kmesh.bpf import lib, mounts
from kmesh.bpf.netns import NamespaceLinks
from kmesh.bpf.objects import CGROUP, MAPS, OBJECTS, Object
from kmesh.bpf.sockets import Sockets
from kmesh.errors import BpfError, CapacityError, ProgramRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

GROWING = ("km_vip", "km_slot", "km_row")
TRIES = ("km_cidr", "km_prefix", "km_exempt")
MAPPED = ("km_slot", "km_row")
RINGS = ("km_events", "km_logs")
NEXT = "_next"  # bpffs refuses names with a dot


class Sizes(NamedTuple):
    """Rows of each table: where it starts and the most it may become."""

    vips: int = 1 << 14
    slots: int = 1 << 18  # 6 MiB; growing costs a verifier run, as much as reading 50,000 workloads
    cidrs: int = 1 << 16
    pods: int = 4096
    flows: int = 1 << 14
    max_vips: int = 1_000_000
    max_slots: int = 4_000_000
    guards: int = 8192
    rows: int = 1 << 16
    max_rows: int = 1 << 23
    matches: int = 1 << 17
    peers: int = 1 << 18
    policies: int = 1 << 14
    exempt: int = 1024
    replies: int = 1 << 14
    events: int = 1 << 20  # bytes
    logs: int = 1 << 18  # bytes
    traffic: int = 1 << 14
    avoid: int = 1 << 10

    def of(self, name: str) -> int | None:
        """Entries of a map at first load; None when the object says it."""
        rows = {
            "km_vip": self.vips, "km_slot": self.slots, "km_cidr": self.cidrs,
            "km_enrol": self.pods, "km_pod": self.pods, "km_own": self.pods,
            "km_flow": self.flows,
            "km_guard": self.guards, "km_row": self.rows, "km_prefix": self.matches,
            "km_match": self.matches, "km_peer": self.peers, "km_exempt": self.exempt,
            "km_verdict": 4 * self.policies, "km_policy": self.policies,
            "km_denial": self.flows, "km_udp_out": self.replies, "km_events": self.events,
            "km_traffic": self.traffic, "km_logs": self.logs,
            "km_avoid": self.avoid,
        }  # fmt: skip
        return rows.get(name)


class DataPlane:
    """The loaded programs, their maps by name, and the pinned links."""

    def __init__(self, bpffs: str, cgroup2: str, sizes: Sizes, lock: int) -> None:
        self.root = f"{bpffs}/kmesh"
        self.maps: dict[str, int] = {}
        self.programs: dict[str, int] = {}
        self.guards = NamespaceLinks(f"{self.root}/links")
        self._swap = Lock()
        self._cgroup2 = cgroup2
        self._sizes = sizes
        self._lock = lock

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
        maps, programs = load(kept, sizes)
        for name in sizes:
            copy(name, self.maps[name], maps[name])
        for name in sizes:
            remove(f"{self.root}/maps/{name}{NEXT}")
            lib.pin(maps[name], f"{self.root}/maps/{name}{NEXT}")
        self.attach(programs)
        for name in sizes:
            os.rename(f"{self.root}/maps/{name}{NEXT}", f"{self.root}/maps/{name}")
        with self._swap:
            close(self.programs.values())
            self.programs = programs
        close(self.maps[name] for name in sizes)
        close(maps[name] for name in kept)
        self.maps |= {name: maps[name] for name in sizes}

    def grow_rows(self, words: int) -> None:
        """As ``grow``, for km_row."""
        have = lib.map_info(self.maps["km_row"]).max_entries
        if words > max(self._sizes.max_rows, have):
            sentence = f"km_row would need {words} words, --max-policy-words is "
            raise CapacityError(f"{sentence}{self._sizes.max_rows}", self._sizes.max_rows)
        if words > have:
            self.replace({"km_row": words})

    def evict(self, cookie: int) -> bool:
        """End the open connections of a pod's namespace that its policies do not allow now; as
        ``iterate``."""
        return self.iterate("km_evict", cookie)

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
        with self._swap:
            program = os.dup(self.programs["km_sweep"])
        try:
            lib.run_map_iterator(program, self.maps["km_conn"])
        finally:
            os.close(program)

    def sockets(self, cookie: int) -> Sockets | None:
        """The TCP sockets of a guarded namespace, None when it is gone; as ``evict``, in a thread
        of its own."""
        netns = self.guards.open(cookie)
        if netns is None:
            return None
        try:
            return Sockets(netns)
        finally:
            os.close(netns)

    def close(self) -> None:
        """Let go of everything; pins, and with them programs and maps, stay."""
        close(self.maps.values())
        close(self.programs.values())
        os.close(self._lock)
        self.maps, self.programs = {}, {}

    def attach(self, programs: dict[str, int]) -> None:
        """Put the programs behind the pinned links, making the links that are missing."""
        programs_ = (program for one in OBJECTS for program in one.programs)
        for each in (one for one in programs_ if one.link and one.name in programs):
            path = f"{self.root}/links/{each.link}"
            link = lib.pinned(path)
            if link is not None:
                lib.replace_program(link, programs[each.name])
            else:
                cgroup = os.open(self._cgroup2, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    link = lib.attach(programs[each.name], cgroup, each.attach_type)
                finally:
                    os.close(cgroup)
                lib.pin(link, path)
            os.close(link)
        self.guards.renew(programs)


def start(bpffs: str, cgroup2: str, sizes: Sizes) -> DataPlane:
    """Adopt what is pinned, or begin: lock, load, pin, attach, in this order.

    Raises MountError, AlreadyRunning, ProgramRefused or BpfError; what was attached stays so.
    """
    bpffs = mounts.require(mounts.BPFFS, bpffs, "--bpf-fs-path")
    cgroup2 = mounts.require(mounts.CGROUP2, cgroup2 or mounts.find_cgroup2(), "--cgroup2-path")
    try:
        for part in ("", "/maps", "/links"):
            os.makedirs(f"{bpffs}/kmesh{part}", mode=0o700, exist_ok=True)
        lock = mounts.lock(f"{bpffs}/kmesh")
    except OSError as error:
        raise BpfError(f"{error.filename}: {error.strerror}", error.errno or 0) from error
    try:
        return _start(DataPlane(bpffs, cgroup2, sizes, lock), sizes)
    except BaseException:
        os.close(lock)
        raise


def _start(plane: DataPlane, sizes: Sizes) -> DataPlane:
    for name in MAPS:
        remove(f"{plane.root}/maps/{name}{NEXT}")
    old = {name: fd for name in MAPS if (fd := lib.pinned(f"{plane.root}/maps/{name}")) is not None}
    verify_meta(old.get("km_meta"))
    fresh = {name: size for name in MAPS if name not in old and (size := sizes.of(name))}
    plane.maps, plane.programs = load(old, fresh)
    close(old.values())
    lib.update(plane.maps["km_meta"], bytes(4), Meta(FINGERPRINT, 0).pack())
    for name in plane.maps:
        if name not in old:
            lib.pin(plane.maps[name], f"{plane.root}/maps/{name}")
    plane.attach(plane.programs)
    small = {
        name: size
        for name in old
        if name not in GROWING
        and (size := sizes.of(name)) is not None
        and size > lib.map_info(plane.maps[name]).max_entries
    }
    if small:
        plane.replace(small)
    return plane


def load(
    existing: dict[str, int], entries: dict[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """(maps, programs) as new fds, using existing maps and sizing the others; nothing is attached.

    Raises ProgramRefused with the verifier's last lines.
    """
    try:
        return _load(existing, entries, explain=False)
    except ProgramRefused:
        return _load(existing, entries, explain=True)


def _load(
    existing: dict[str, int], entries: dict[str, int], *, explain: bool
) -> tuple[dict[str, int], dict[str, int]]:
    maps: dict[str, int] = {}
    programs: dict[str, int] = {}
    try:
        for one in OBJECTS:
            try:
                _load_one(one, existing, entries, maps, programs, explain=explain)
            except ProgramRefused as error:
                if not one.without:
                    raise
                log.warning("%s: %s", one.without, error.sentence.rstrip().rpartition("\n")[2])
    except BaseException:
        close(maps.values())
        close(programs.values())
        raise
    return maps, programs


def _load_one(
    one: Object,
    existing: dict[str, int],
    entries: dict[str, int],
    maps: dict[str, int],
    programs: dict[str, int],
    *,
    explain: bool,
) -> None:
    """Load an object and add its maps and programs to those of the objects before it."""
    object_ = lib.Object(one.path)
    try:
        for name in one.maps:
            if (fd := maps.get(name, existing.get(name))) is not None:
                object_.reuse(name, fd)
            elif name in entries:
                object_.resize(name, entries[name])
        if one.sets_errno:
            precise = lib.helper_allowed(CGROUP["connect4"], lib.SET_RETVAL)
            object_.set_read_only(bytes([precise]))
        if explain:
            object_.explain([program.name for program in one.programs])
        errno, text = object_.load()
        if errno:
            raise ProgramRefused(f"the kernel refused the programs\n{relevant(text)}\n", errno)
        maps |= {name: object_.map_fd(name) for name in one.maps if name not in maps}
        programs |= {each.name: object_.program_fd(each.name) for each in one.programs}
    finally:
        object_.close()


def relevant(log: str) -> str:
    """The end of a verifier log, from a few lines above the failing instruction on."""
    lines = log.splitlines()
    # Newer kernels (7.3) explain the failure at length below the line that older ones end with.
    reports = [i for i, line in enumerate(lines) if line.startswith("Verification failed")]
    start = reports[-1] - 10 if reports else len(lines) - 20
    return "\n".join(lines[max(start, 0) :])


def verify_meta(fd: int | None) -> None:
    """Refuse maps of another layout."""
    if fd is None:
        return
    raw = lib.lookup(fd, bytes(4), META_SIZE)
    if raw is not None and Meta.unpack(raw).fingerprint not in (FINGERPRINT, bytes(32)):
        raise BpfError(
            "the pinned maps were made by a version with another layout",
            next_step="Run `kmesh uninstall` with that version, then start this one.",
        )


def copy(name: str, old: int, new: int) -> None:
    """All rows of a map into its bigger successor; records of a ring cannot be put back."""
    if name in RINGS:
        log.warning("%s has another size now: records that were not read yet are lost", name)
        return
    if name in TRIES:  # LPM tries have no batches everywhere
        for key, value in lib.walk(old):
            lib.update(new, key, value)
        return
    if name not in MAPPED:
        found = list(lib.rows(old))
        for start_ in range(0, len(found), lib.BATCH):
            _, error = lib.update_many(new, found[start_ : start_ + lib.BATCH])
            if error is not None:
                raise error
        return
    info = lib.map_info(old)
    size = info.max_entries * info.value_size
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    with mmap.mmap(old, pages) as source, mmap.mmap(new, pages) as target:
        target[:size] = source[:size]


def remove(path: str) -> None:
    """Unlink; absent is fine."""
    Path(path).unlink(missing_ok=True)


def close(fds: Iterable[int]) -> None:
    """Close file descriptors."""
    for fd in fds:
        os.close(fd)
