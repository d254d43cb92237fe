"""The links that guard network namespaces: one each, pinned as ``authz_<cookie>``."""

from __future__ import annotations

import os
from errno import ENOLINK
from pathlib import Path

from kmesh.bpf import lib
from kmesh.bpf.objects import SK_LOOKUP
from kmesh.errors import BpfError

PREFIX = "authz_"


class NamespaceLinks:
    """Links below a folder of bpffs. ``paths`` are those of enrolled namespaces, by cookie; after
    a restart the pins alone are enough for those that have a link."""

    def __init__(self, folder: str) -> None:
        self.paths: dict[int, str] = {}
        self._folder = folder

    def attach(self, cookie: int, program: int) -> None:
        """Guard a namespace with a program; one that is guarded stays so. Raises BpfError."""
        pin = self._pin(cookie)
        if os.path.exists(pin):
            return
        path = self.paths.get(cookie)
        if path is None:
            sentence = f"the path of the network namespace with cookie {cookie} is not known"
            raise BpfError(sentence, next_step="Enrol the pod again.")
        try:
            netns = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise BpfError(f"{path}: {error.strerror}", error.errno or 0) from error
        try:
            link = lib.attach(program, netns, SK_LOOKUP)
        finally:
            os.close(netns)
        try:
            lib.pin(link, pin)
        finally:
            os.close(link)

    def detach(self, cookie: int) -> None:
        """Guard a namespace no more; absent is fine."""
        Path(self._pin(cookie)).unlink(missing_ok=True)
        self.paths.pop(cookie, None)

    def cookies(self) -> list[int]:
        """The namespaces that have a link."""
        return [int(pin.name.removeprefix(PREFIX)) for pin in self._pins()]

    def renew(self, program: int) -> None:
        """Put a program behind every link; links whose namespace is gone lead nowhere and go."""
        for pin in self._pins():
            link = lib.pinned(str(pin))
            if link is None:
                continue
            try:
                lib.replace_program(link, program)
            except BpfError as error:
                if error.errno != ENOLINK:
                    raise
                pin.unlink()
            finally:
                os.close(link)

    def open(self, cookie: int) -> int | None:
        """An fd of a guarded namespace: by its path, else by a process that is in it; None when
        neither leads there any more."""
        link = lib.pinned(self._pin(cookie))
        if link is None:
            return None
        try:
            inode = lib.link_netns(link)
        finally:
            os.close(link)
        path = self.paths.get(cookie)
        processes = [f"/proc/{pid}/ns/net" for pid in os.listdir("/proc") if pid.isdigit()]
        for candidate in [path, *processes] if path else processes:
            try:
                fd = os.open(candidate, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:  # the process has ended, or the path is gone
                continue
            if os.fstat(fd).st_ino == inode:
                return fd
            os.close(fd)
        return None

    def _pins(self) -> list[Path]:
        return sorted(Path(self._folder).glob(f"{PREFIX}*"))

    def _pin(self, cookie: int) -> str:
        return f"{self._folder}/{PREFIX}{cookie}"
