"""From which address a pod dials: what the program that refuses early has to know of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.check import seal_last
from kmesh.abi.layout import Own
from kmesh.core.addr import is_ipv4
from kmesh.core.commands import OWN, Drop, Op, Phase, Put

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class OwnAddresses:
    """The mirror of km_own."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def adopt(self, rows: Mapping[bytes, bytes]) -> None:
        """Take over what the kernel holds."""
        self.rows = dict(rows)

    def plan(self, known: Mapping[int, Sequence[bytes]]) -> tuple[list[Op], list[Op]]:
        """(rows to put, rows to drop) for the 16-byte addresses of the pods with these cookies."""
        wanted: dict[bytes, bytes] = {}
        for cookie, addresses in known.items():
            key = cookie.to_bytes(8, "little")
            wanted[key] = row(key, addresses)
        puts = [
            Op(Phase.GUARD, Put(OWN, key, value), None)
            for key, value in wanted.items()
            if self.rows.get(key) != value
        ]
        gone = sorted(self.rows.keys() - wanted.keys())
        return puts, [Op(Phase.DROP_GUARD, Drop(OWN, key), None) for key in gone]

    def done(self, command: Put | Drop) -> None:
        """An operation of ``plan`` is in the kernel."""
        if isinstance(command, Put):
            self.rows[command.key] = command.value
        else:
            self.rows.pop(command.key, None)


def row(key: bytes, addresses: Sequence[bytes]) -> bytes:
    """The row of a pod with these 16-byte addresses."""
    ipv4 = single([each for each in addresses if is_ipv4(each)])
    ipv6 = single([each for each in addresses if not is_ipv4(each)])
    return seal_last(key, Own(ipv4, ipv6, 0, 0).pack())


def single(addresses: Sequence[bytes]) -> bytes:
    """The only one, or zeros: which of several a pod will dial from is not known beforehand."""
    return addresses[0] if len(addresses) == 1 else bytes(16)
