"""Sources that no policy keeps out: (masked base, prefix length out of 128)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.layout import CidrKey
from kmesh.core.commands import EXEMPT, Drop, Op, Phase, Put

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kmesh.core.policy import Cidr


class Exemptions:
    """The mirror of km_exempt: those that are ``wanted``, and those that are ``there``."""

    def __init__(self, wanted: Iterable[Cidr]) -> None:
        self.wanted = set(wanted)
        self.there: set[Cidr] = set()

    def adopt(self, keys: Iterable[bytes]) -> None:
        """Take over what the kernel holds."""
        self.there = {(key.addr, key.plen) for key in map(CidrKey.unpack, keys)}

    def take_ops(self) -> list[Op]:
        """Operations that bring the rows to what is wanted."""
        ops = []
        for addr, plen in sorted(self.wanted - self.there):
            key = CidrKey(plen, addr).pack()
            ops.append(Op(Phase.RULES, Put(EXEMPT, key, key[4:] + key[:4]), None))
        for addr, plen in sorted(self.there - self.wanted):
            drop = Drop(EXEMPT, CidrKey(plen, addr).pack())
            ops.append(Op(Phase.DROP_RULES, drop, None))
        self.there = set(self.wanted)
        return ops
