"""Policies as bits: every conjunction of predicates one bit, every value of a dimension one row.

The layout is that of km_guard in bpf_c/abi.h. Rows are Python integers here, bit 0 first; cost is
that of a few operations on integers as wide as the set for each value, not for each pair.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from kmesh.abi.layout import Dimension
from kmesh.core.conjunctions import MOST_WORDS, POSITIVE, TooManyRules, conjunctions
from kmesh.core.model import Action, Identity, Match
from kmesh.core.policy import covers, principal
from kmesh.core.policy_layers import fitting, layers, mask, named
from kmesh.core.steps import Steps, finish

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kmesh.core.conjunctions import Conjunction
    from kmesh.core.model import Authorization
    from kmesh.core.policy import Cidr
    from kmesh.core.policy_layers import Layer

EVERYWHERE = (bytes(16), 0)
NOBODY_IN_PARTICULAR = Identity("\0", "\0", "\0")


class PolicySet:
    """The compiled form of some policies; ``words`` in all, then where each group ends."""

    def __init__(self, policies: Sequence[Authorization]) -> None:
        """All at once. Raises TooManyRules."""
        finish(self._compile(policies))

    @classmethod
    def slowly(cls, policies: Sequence[Authorization]) -> Steps[PolicySet]:
        """The same in steps."""
        made = cls.__new__(cls)
        yield from made._compile(policies)
        return made

    def _compile(self, policies: Sequence[Authorization]) -> Steps[None]:
        groups = [
            [p for p in policies if p.dry_run is dry and p.action is action]
            for dry in (False, True)
            for action in (Action.DENY, Action.ALLOW)
        ]
        self.owners: list[str] = []
        bits: list[Conjunction] = []
        ends = []
        for group in groups:
            for policy in group:
                found = yield from conjunctions(policy)
                bits += found
                self.owners += [policy.key] * len(found)
                yield
            padding = -len(bits) % 64
            ends.append((len(bits) + padding) // 64)
            if ends[-1] > MOST_WORDS:
                raise TooManyRules(len(bits))
            bits += [(Match(),)] * padding
            self.owners += [""] * padding
        self.deny, self.allow, self.dry_deny, self.words = ends
        self.allows, self.dry_allows = bool(groups[1]), bool(groups[3])
        self.full = mask(i for i, owner in enumerate(self.owners) if owner)
        self._layers: dict[str, list[Layer]] = {}
        for kind in POSITIVE:
            self._layers[kind] = yield from layers(bits, kind)
        self.peers = any(self._layers[k] for k in ("namespaces", "principals", "service_accounts"))

    def prefixes(self, dimension: Dimension) -> Steps[dict[Cidr, int]]:
        """Row of every prefix that some rule names, and of everything else under ::/0."""
        kind = "source_ips" if dimension is Dimension.SOURCE else "destination_ips"
        found = self._layers[kind]
        rows: dict[Cidr, int] = {}
        above: list[tuple[Cidr, list[tuple[int, int]]]] = []
        for cidr in sorted({EVERYWHERE, *named(found)}):  # what holds a prefix comes before it
            while above and not _holds(above[-1][0], cidr):
                above.pop()
            before = above[-1][1] if above else [(layer.free, 0) for layer in found]
            now = [
                (yes | layer.wanted.get(cidr, 0), no | layer.unwanted.get(cidr, 0))
                for layer, (yes, no) in zip(found, before, strict=True)
            ]
            above.append((cidr, now))
            rows[cidr] = self._all(now)
            yield
        return rows

    def ports(self) -> Steps[tuple[int, dict[int, int]]]:
        """(row of any other port, row of each port that some rule names)."""
        found = self._layers["destination_ports"]
        rows: dict[int, int] = {}
        for port in named(found):
            rows[port] = self._all(
                (layer.free | layer.wanted.get(port, 0), layer.unwanted.get(port, 0))
                for layer in found
            )
            yield
        return self._all((layer.free, 0) for layer in found), rows

    def identity(self, identity: Identity | None) -> int:
        """Row of a peer; None is a peer without identity."""
        if identity is None:
            kinds = ("namespaces", "principals", "service_accounts")
            return self._all((layer.free, 0) for kind in kinds for layer in self._layers[kind])
        account = (identity.namespace, identity.service_account)
        strings = {"namespaces": identity.namespace, "principals": principal(identity)}
        found = [
            (
                layer.free | fitting(layer.wanted, layer.loose[0], value),
                fitting(layer.unwanted, layer.loose[1], value),
            )
            for kind, value in strings.items()
            for layer in self._layers[kind]
        ]
        found += [
            (layer.free | layer.wanted.get(account, 0), layer.unwanted.get(account, 0))
            for layer in self._layers["service_accounts"]
        ]
        return self._all(found)

    def pack(self, row: int) -> bytes:
        """A row as it lies in km_row: summary, then words."""
        words = row.to_bytes(8 * self.words, "little")
        found = (i for i, word in enumerate(Struct(f"<{self.words}Q").unpack(words)) if word)
        return mask(found).to_bytes(8 * summaries(self.words), "little") + words

    def _all(self, parts: Iterable[tuple[int, int]]) -> int:
        row = self.full
        for yes, no in parts:
            row &= yes & ~no
        return row


def summaries(words: int) -> int:
    """Words of summary in front of a row."""
    return -(-words // 64)


def _holds(outer: Cidr, inner: Cidr) -> bool:
    """Whether a prefix lies in another."""
    return inner[1] >= outer[1] and covers(outer, inner[0])
