"""The open TCP connections of a pod, with what the application had dialled.

Read over sock_diag in the pod's namespace; what was dialled lies in km_recent by the socket's
cookie. Enters the namespace: call from a thread of its own.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import RECENT_SIZE, Origin, Recent
from kmesh.bpf import lib
from kmesh.bpf.sockets import LISTEN, OPEN
from kmesh.core.policy import LOOPBACK, covers

if TYPE_CHECKING:
    from kmesh.bpf.load import DataPlane
    from kmesh.bpf.sockets import Found

    Place = tuple[bytes, int]
    """16-byte address and port."""

MOST = 10_000  # connections of one pod


class Open(NamedTuple):
    """Who connected, what was dialled and where it went; ``inbound``: into the pod. What was
    dialled is known of the last 16,384 sockets of the node that the mesh steered."""

    inbound: bool
    source: Place
    dialled: Place
    destination: Place


def connections(plane: DataPlane, cookie: int) -> list[Open]:
    """Those of a namespace, the first MOST; none when it is gone. Raises BpfError."""
    sockets = plane.sockets(cookie)
    if sockets is None:
        return []
    try:
        found = sockets.list(OPEN | 1 << LISTEN)
    finally:
        sockets.close()
    ports = {each.local_port for each in found if each.state == LISTEN}
    mesh = (each for each in found if each.state != LISTEN and not _inside(each))
    recent = os.dup(plane.maps["km_recent"])
    try:
        places = lib.map_info(recent).max_entries
        return [
            _open(each, each.local_port in ports, recent, places) for each in islice(mesh, MOST)
        ]
    finally:
        os.close(recent)


def _open(found: Found, inbound: bool, recent: int, places: int) -> Open:
    local, remote = (found.local, found.local_port), (found.remote, found.remote_port)
    if inbound:
        return Open(True, remote, local, local)
    socket = int.from_bytes(found.name[-8:], "little")
    raw = lib.lookup(recent, (socket % places).to_bytes(4, "little"), RECENT_SIZE)
    row = None if raw is None else Recent.unpack(raw)
    if row is None or row.socket != socket:
        return Open(False, local, remote, remote)
    origin = Origin.unpack(row.origin)
    return Open(False, local, (origin.vip, origin.vip_port), remote)


def _inside(found: Found) -> bool:
    """Whether a connection never leaves the pod."""
    return found.local == found.remote or any(covers(each, found.remote) for each in LOOPBACK)
