"""Ends sockets in a pod's namespace: by programs, before Linux 6.5 over sock_diag."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kmesh.bpf.sockets import Found, Sockets


class Look(NamedTuple):
    """What is looked at: the ``program`` that ends what is to end, else the sockets of
    ``protocol`` in ``states`` (bits), of which ``choose`` tells those that are to end."""

    program: str
    protocol: int
    states: int
    choose: Callable[[list[Found]], Awaitable[list[Found]]]


class Ender:
    """``iterate`` runs a program over the sockets of a namespace, False where this kernel refused
    it; ``sockets`` opens them for sock_diag. ``by_hand`` sockets were ended without a program: the
    others are counted by reason in the kernel."""

    def __init__(
        self,
        iterate: Callable[[str, int], bool],
        sockets: Callable[[int], Sockets | None],
    ) -> None:
        self._iterate, self._sockets = iterate, sockets
        self.by_hand = 0

    async def look(self, cookie: int, *looks: Look) -> None:
        """Look at one pod, which may be gone. Raises BpfError."""
        for look in looks:
            if not await anyio.to_thread.run_sync(self._iterate, look.program, cookie):
                await self._look_by_hand(cookie, look)

    async def _look_by_hand(self, cookie: int, look: Look) -> None:
        sockets = await anyio.to_thread.run_sync(self._sockets, cookie)
        if sockets is None:
            return
        try:
            found = await anyio.to_thread.run_sync(sockets.list, look.states, look.protocol)
            chosen = await look.choose(found)
            self.by_hand += await anyio.to_thread.run_sync(sockets.end, chosen)
        finally:
            sockets.close()
