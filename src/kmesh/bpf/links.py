"""The pinned links and the programs behind them: switched all together, or not at all."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.bpf import lib
from kmesh.bpf.objects import OBJECTS
from kmesh.errors import BpfError, SwitchFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kmesh.bpf.netns import NamespaceLinks


class Undo:
    """What a switch has done so far. At the end of the block everything is undone, last first,
    unless it was ``kept``."""

    def __init__(self) -> None:
        self._held, self._steps = ExitStack(), ExitStack()

    def replace(self, link: int, program: int) -> None:
        """Put a program behind a link (an fd, closed at the end). Raises BpfError, also when
        somebody else changed the link meanwhile."""
        self._held.callback(os.close, link)
        old = lib.program(lib.link_info(link).program)
        self._held.callback(os.close, old)
        lib.replace_program(link, program, old)
        self._steps.callback(lib.replace_program, link, old, program)

    def step(self, undo: Callable[[], None]) -> None:
        """Something was done that ``undo`` undoes."""
        self._steps.callback(undo)

    def hold(self, fd: int) -> None:
        """Close an fd at the end."""
        self._held.callback(os.close, fd)

    def kept(self) -> None:
        """Nothing is to be undone any more."""
        self._steps.pop_all()

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, *_: object) -> None:
        with self._held:
            self._steps.close()


def switch(guards: NamespaceLinks, cgroup2: str, programs: Mapping[str, int]) -> None:
    """Put the programs behind all links, of the cgroup and of namespaces, and make the links to
    the cgroup that are missing.

    Raises SwitchFailed; then every link has the program that it had before.
    """
    attached = [one for each in OBJECTS for one in each.programs if one.link]
    with Undo() as undo:
        for each in attached:
            if each.name in programs:
                path = f"{guards.folder}/{each.link}"
                with told(each.name, path):
                    _put(path, cgroup2, programs[each.name], each.attach_type, undo)
        guards.renew(programs, undo)
        undo.kept()


@contextmanager
def told(program: str, link: str) -> Iterator[None]:
    """What fails in the block failed for this program and link."""
    try:
        yield
    except BpfError as error:
        sentence = f"{program} cannot be put behind {link}: {error.sentence}"
        raise SwitchFailed(sentence, error.errno) from error


def _put(path: str, cgroup2: str, program: int, attach_type: int, undo: Undo) -> None:
    link = lib.pinned(path)
    if link is not None:
        undo.replace(link, program)
        return
    cgroup = os.open(cgroup2, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    undo.hold(cgroup)
    link = lib.attach(program, cgroup, attach_type)
    undo.hold(link)
    lib.pin(link, path)
    undo.step(Path(path).unlink)


def leave(folder: str, programs: Mapping[str, int]) -> list[str]:
    """Remove the links to the cgroup that no program of ours is behind: of a build with more
    hooks, on tables that are no more. Returns their names."""
    ours = {one.link for each in OBJECTS for one in each.programs if one.name in programs}
    found = [path for path in sorted(Path(folder).iterdir()) if "_" not in path.name]
    gone = [path for path in found if path.name not in ours]
    for path in gone:
        path.unlink()
    return [path.name for path in gone]
