"""The links that guard network namespaces, pinned by the namespace's cookie.

A pod is guarded at one of two places: in the namespace as a whole (``authz_<cookie>``), or on each
interface (``tcx_<cookie>_<index>``) where a transparent proxy assigns sockets, so that the first
is asked about the proxy. Before Linux 6.6 interfaces have filters instead of links; a pin of the
program (``tc_<cookie>_<index>``) tells that there is one.
"""

from __future__ import annotations

import os
import struct
from contextlib import contextmanager
from errno import EINVAL, ENOENT, ENOLINK
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.bpf import lib
from kmesh.bpf.links import Undo, told
from kmesh.bpf.objects import SK_LOOKUP, TCX_INGRESS
from kmesh.core.guard_places import MIXED
from kmesh.errors import BpfError, SwitchFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NAMED = "/run/netns"
WHOLE, LINKED, FILTERED = "authz", "tcx", "tc"
PROGRAMS = {WHOLE: "km_admit", LINKED: "km_ingress", FILTERED: "km_ingress"}


class NamespaceLinks:
    """Pins below a folder of bpffs. ``paths`` are those of enrolled namespaces, by cookie; after
    a restart a name in ``NAMED`` or a process in the namespace leads there as well. A place is told
    by the packed ``u32`` indexes of interfaces, empty for the namespace as a whole."""

    def __init__(self, folder: str) -> None:
        self.paths: dict[int, str] = {}
        self.folder = folder

    def attach(self, cookie: int, place: bytes, programs: Mapping[str, int]) -> None:
        """Guard a namespace at this place and then nowhere else; what is there already stays, if it
        leads there. Raises BpfError."""
        indexes = {index for (index,) in struct.iter_unpack("=I", place)}
        self._mend(cookie, programs)
        if place and "km_ingress" not in programs:
            raise BpfError("this kernel has no programs on interfaces")
        if not place and not os.path.exists(self._pin(WHOLE, cookie)):
            with self._opened(cookie) as netns:
                link = lib.attach(programs["km_admit"], netns, SK_LOOKUP)
                self._keep(link, self._pin(WHOLE, cookie))
        missing = indexes - self._interfaces(cookie)
        if missing:
            with self._opened(cookie) as netns:
                for index in sorted(missing):
                    self._attach_interface(netns, cookie, index, programs["km_ingress"])
        if place:
            Path(self._pin(WHOLE, cookie)).unlink(missing_ok=True)
        self._leave_interfaces(cookie, self._interfaces(cookie) - indexes)

    def detach(self, cookie: int) -> None:
        """Guard a namespace no more; absent is fine."""
        Path(self._pin(WHOLE, cookie)).unlink(missing_ok=True)
        self._leave_interfaces(cookie, self._interfaces(cookie))
        self.paths.pop(cookie, None)

    def places(self) -> dict[int, bytes]:
        """Where each namespace is guarded; a change that was interrupted is none of the places
        that can be asked for."""
        return places(pin.name for pin in self._pins())

    def leading(self, cookie: int, programs: Mapping[str, int]) -> bytes | None:
        """As ``places`` of one namespace, by the links alone that lead there and to these
        programs; None when none does. Filters are believed by their pins."""
        names = [pin.name for pin in self._pins(cookie) if self._leads(pin, programs) is None]
        return places(names).get(cookie)

    def alive(self, cookie: int) -> bool | None:
        """Whether a namespace exists; None when nobody here ever knew a way to it. Enters
        namespaces: run in a thread of its own."""
        links = [pin for pin in self._pins(cookie) if not pin.name.startswith(f"{FILTERED}_")]
        for pin in links:
            link = lib.pinned(str(pin))
            if link is not None:
                try:
                    if lib.link_info(link).target:
                        return True
                finally:
                    os.close(link)
        netns = self.open(cookie)
        if netns is None:
            return False if links or cookie in self.paths else None
        os.close(netns)
        return True

    def interfaces(self, cookie: int) -> bytes | None:
        """The place that all interfaces of a namespace are; None when it is gone."""
        netns = self.open(cookie)
        if netns is None:
            return None
        try:
            return struct.pack(f"={len(found := sorted(lib.interfaces(netns)))}I", *found)
        finally:
            os.close(netns)

    def renew(self, programs: Mapping[str, int], undo: Undo) -> None:
        """Put programs behind every link; those whose namespace or interface is gone go. Raises
        SwitchFailed."""
        for pin in self._pins():
            name = PROGRAMS[pin.name.split("_")[0]]
            try:
                with told(name, str(pin)):
                    self._renew(pin, programs.get(name), undo)
            except SwitchFailed as error:
                if error.errno not in (ENOLINK, ENOENT):
                    raise
                pin.unlink()

    def open(self, cookie: int) -> int | None:
        """An fd of a namespace: by its path, else by where container runtimes name namespaces or
        by a process that is in it; None when none leads there any more. Enters namespaces: run in
        a thread of its own."""
        path, seen = self.paths.get(cookie), set()
        others = [str(each) for each in Path(NAMED).glob("*")]
        others += [f"/proc/{pid}/ns/net" for pid in os.listdir("/proc") if pid.isdigit()]
        for candidate in [path, *others] if path else others:
            try:
                fd = os.open(candidate, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:  # the process has ended, or the path is gone
                continue
            inode = os.fstat(fd).st_ino
            if inode not in seen and lib.netns_cookie(fd) == cookie:
                return fd
            seen.add(inode)
            os.close(fd)
        return None

    def _attach_interface(self, netns: int, cookie: int, index: int, program: int) -> None:
        try:
            link = lib.attach_interface(netns, program, index, TCX_INGRESS)
        except BpfError as error:
            if error.errno != EINVAL:
                raise
            lib.filter_interface(netns, program, index)
            lib.pin(program, self._pin(FILTERED, cookie, index))
            return
        self._keep(link, self._pin(LINKED, cookie, index))

    def _leave_interfaces(self, cookie: int, indexes: set[int]) -> None:
        for index in sorted(indexes):
            Path(self._pin(LINKED, cookie, index)).unlink(missing_ok=True)
            filtered = Path(self._pin(FILTERED, cookie, index))
            if not filtered.exists():
                continue
            netns = self.open(cookie)
            if netns is not None:
                try:
                    lib.unfilter_interface(netns, index)
                finally:
                    os.close(netns)
            filtered.unlink()

    def _mend(self, cookie: int, programs: Mapping[str, int]) -> None:
        """Put our program behind each link, and drop those that lead nowhere: not before the
        namespace can be entered, for until then they tell that it is gone (``alive``)."""
        for pin in self._pins(cookie):
            wrong = self._leads(pin, programs)
            if wrong is not None and not wrong.target:
                with self._opened(cookie):
                    pin.unlink()
            elif wrong is not None:
                with Undo() as undo:
                    self._renew(pin, programs[PROGRAMS[pin.name.split("_")[0]]], undo)
                    undo.kept()

    def _leads(self, pin: Path, programs: Mapping[str, int]) -> lib.LinkInfo | None:
        """What is wrong with a link: it leads nowhere, or to another program; None: nothing."""
        kind = pin.name.split("_")[0]
        link = None if kind == FILTERED else lib.pinned(str(pin))
        if link is None:
            return None
        try:
            info = lib.link_info(link)
        finally:
            os.close(link)
        ours = info.target and info.program == lib.program_id(programs[PROGRAMS[kind]])
        return None if ours else info

    def _renew(self, pin: Path, program: int | None, undo: Undo) -> None:
        if program is None:
            raise BpfError("this kernel refuses the program")
        kind, cookie, *rest = pin.name.split("_")
        fd = lib.pinned(str(pin))
        if fd is None:
            return
        if kind != FILTERED:
            undo.replace(fd, program)
            return
        undo.hold(fd)
        self._filter(pin, int(cookie), int(rest[0]), program)
        undo.step(lambda: self._filter(pin, int(cookie), int(rest[0]), fd))

    def _filter(self, pin: Path, cookie: int, index: int, program: int) -> None:
        with self._opened(cookie) as netns:
            lib.filter_interface(netns, program, index)
        pin.unlink()
        lib.pin(program, str(pin))

    def _interfaces(self, cookie: int) -> set[int]:
        """Those that have a link or a filter."""
        pins = (pin.name.split("_") for pin in self._pins(cookie))
        return {int(rest[0]) for _, _, *rest in pins if rest}

    @contextmanager
    def _opened(self, cookie: int) -> Iterator[int]:
        netns = self.open(cookie)
        if netns is None:
            sentence = f"nothing leads to the network namespace with cookie {cookie}"
            raise BpfError(sentence, ENOENT, "Enrol the pod again.")
        try:
            yield netns
        finally:
            os.close(netns)

    def _keep(self, link: int, pin: str) -> None:
        try:
            lib.pin(link, pin)
        finally:
            os.close(link)

    def _pins(self, cookie: int | None = None) -> list[Path]:
        """Those of one namespace, or all."""
        kinds, folder = (WHOLE, LINKED, FILTERED), Path(self.folder)
        if cookie is None:
            return sorted(pin for kind in kinds for pin in folder.glob(f"{kind}_*"))
        whole = folder / f"{WHOLE}_{cookie}"
        parts = (pin for kind in kinds[1:] for pin in folder.glob(f"{kind}_{cookie}_*"))
        return sorted([*([whole] if whole.exists() else []), *parts])

    def _pin(self, kind: str, cookie: int, index: int | None = None) -> str:
        name = f"{kind}_{cookie}" if index is None else f"{kind}_{cookie}_{index}"
        return f"{self.folder}/{name}"


def places(names: Iterable[str]) -> dict[int, bytes]:
    """Where each namespace is guarded, by the names of its pins."""
    found: dict[int, bytes] = {}
    for name in names:
        kind, cookie, *rest = name.split("_")
        place = struct.pack("=I", int(rest[0])) if kind != WHOLE else b""
        before = found.get(int(cookie))
        if before is None:
            found[int(cookie)] = place
        else:
            found[int(cookie)] = before + (place or MIXED) if before else MIXED + place
    return found
