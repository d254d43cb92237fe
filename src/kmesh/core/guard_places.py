"""Where each pod is guarded: in its namespace as a whole, or at its interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.core.commands import LINK, Drop, Op, Phase, Put

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

INDEX_SIZE = 4
MIXED = b"?"  # among the indexes of a pod that is guarded as a whole besides


class GuardPlaces:
    """The mirror of the pinned links: cookies to packed indexes of interfaces, empty for the
    namespace as a whole."""

    def __init__(self) -> None:
        self.links: dict[int, bytes] = {}
        self._told: dict[int, bytes] = {}

    def adopt(self, links: Mapping[int, bytes]) -> None:
        """Take over what the kernel holds."""
        self.links = dict(links)

    def tell(self, cookie: int, place: bytes) -> bool:
        """Where to guard a pod; whether that is another place than before."""
        other = self.of(cookie) != place
        if other:
            self._told[cookie] = place
        return other

    def of(self, cookie: int) -> bytes:
        """Where a pod is to be guarded: as told, else as it was found."""
        found = self._told.get(cookie, self.links.get(cookie, b""))
        return b"" if len(found) % INDEX_SIZE else found  # an index may hold the byte of MIXED

    def found(self, cookie: int, place: bytes | None) -> None:
        """A pod is not guarded where it was: there instead, or nowhere."""
        self._told.setdefault(cookie, self.of(cookie))
        if place is None:
            self.links.pop(cookie, None)
        else:
            self.links[cookie] = place

    def plan(self, guarded: Iterable[int], enrolled: Collection[int]) -> list[Op]:
        """Links of pods that are guarded where they should be, then those of pods that are not
        enrolled any more."""
        ops = [
            Op(Phase.LINK, Put(LINK, cookie.to_bytes(8, "little"), self.of(cookie)), cookie)
            for cookie in guarded
            if self.links.get(cookie) != self.of(cookie)
        ]
        return ops + [
            Op(Phase.UNLINK, Drop(LINK, cookie.to_bytes(8, "little")), cookie)
            for cookie in sorted(self.links.keys() - enrolled)
        ]

    def done(self, command: Put | Drop) -> None:
        """An operation of ``plan`` is in the kernel."""
        cookie = int.from_bytes(command.key, "little")
        if isinstance(command, Put):
            self.links[cookie] = command.value
        else:
            self.links.pop(cookie, None)
            self._told.pop(cookie, None)
