"""The endpoints that clients avoid for a while, as the kernel's list has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Avoid, Avoiding, AvoidKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Avoided(NamedTuple):
    """An endpoint (16-byte address) that a client, known by the kernel's id of its workload, is
    not sent to for so many ``seconds``, after as many ``failures`` in a row to connect as a client
    of ``service`` (the kernel's id)."""

    client: int
    addr: bytes
    port: int
    service: int
    failures: int
    seconds: float


def in_force(rows: Iterable[tuple[bytes, bytes]], avoiding: bytes, now: int) -> Iterator[Avoided]:
    """The rows of km_avoid that count now (ns of CLOCK_MONOTONIC); none where the row of
    km_avoiding says that the list is over or switched off."""
    if Avoiding.unpack(avoiding).until <= now:
        return
    for raw, value in rows:
        key, row = AvoidKey.unpack(raw), Avoid.unpack(value)
        if row.until > now:
            left = (row.until - now) / 1e9
            yield Avoided(key.workload, key.addr, key.port, row.service, row.failures, left)
