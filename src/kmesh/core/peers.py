"""Whose address is it: the rows by which a policy knows a peer's identity.

They are written only once some policy asks for an identity; until then a mesh does not pay for
them. An identity's rows in every set are written before an address leads to it.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from kmesh.abi.check import seal_last
from kmesh.abi.layout import Peer
from kmesh.core.commands import PEER, Drop, Op, Phase, Put

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kmesh.core.guard_names import GuardNames
    from kmesh.core.guard_rows import Rules
    from kmesh.core.model import Workload
    from kmesh.core.steps import Steps
    from kmesh.core.store import Store


class Peers:
    """The mirror of km_peer: 16-byte addresses on our network to packed rows."""

    def __init__(self, store: Store, names: GuardNames) -> None:
        self.rows: dict[bytes, bytes] = {}
        self._store, self._names = store, names
        self.on = False
        self._complete = False
        self._touched: dict[bytes, None] = {}

    @property
    def dirty(self) -> bool:
        """Whether some address may have another identity than the kernel holds."""
        return self.on and bool(self._touched or not self._complete)

    def adopt(self, rows: Mapping[bytes, bytes]) -> None:
        """Take over what the kernel holds; it is compared with the mesh when that is known."""
        self.rows = dict(rows)
        if rows:
            self._watch()

    def size(self) -> int:
        """How many rows there are, or would be if some policy asked for identities."""
        return self._store.claims.count(self._store.home.network)

    def learn_all(self) -> Steps[None]:
        """Some policy asks for identities: give all of the mesh an id, for a new set's rows. What
        comes meanwhile is looked at after that."""
        if not self.on:
            self._store.roster.watch()
            for identity in self._store.roster.identities():
                self._names.identity(identity)
                yield
            self.on = True

    def _watch(self) -> None:
        self.on = True
        self._store.roster.watch()

    def look(self) -> None:
        """The mesh may have changed."""
        if self.on:
            self._touched.update(dict.fromkeys(self._store.roster.moved()))

    def prepare(self, rules: Iterable[Rules]) -> None:
        """Give identities that are about to appear their rows in these sets. Raises Full."""
        owners = (self.owner(addr) for addr in self._touched)
        new = {w.identity: self._names.identity(w.identity) for w in owners if w is not None}
        if new:
            for each in rules:
                if each.compiled.peers:
                    each.extend(new.items())

    def plan(self) -> Iterator[Op | None]:
        """Operations that bring the rows to what the mesh says; after ``prepare``. None where an
        address needs none."""
        if not self.on:
            return
        addresses: Iterable[bytes] = list(self._touched)
        self._touched.clear()
        if not self._complete:
            # What changes on the way is touched, and what comes twice is right the second time.
            addresses = chain(list(self.rows), self._store.roster.addresses())
            self._complete = True
        for addr in addresses:
            owner = self.owner(addr)
            if owner is None:
                there = addr in self.rows
                yield Op(Phase.DROP_RULES, Drop(PEER, addr), None) if there else None
                continue
            if owner.identity not in self._names.identities:
                # It came meanwhile: the address has the old one until the new one is prepared.
                self._touched[addr] = None
                yield None
                continue
            identity = self._names.identities[owner.identity]
            value = seal_last(addr, Peer(identity, 0, 0).pack())
            right = self.rows.get(addr) == value
            yield None if right else Op(Phase.RULES, Put(PEER, addr, value), None)

    def found(self, addr: bytes, value: bytes | None) -> None:
        """A row is not as it was written: this one is there instead, or none."""
        if value is None:
            self.rows.pop(addr, None)
        else:
            self.rows[addr] = value
        self.on = True
        self._touched[addr] = None

    def done(self, command: Put | Drop) -> None:
        """An operation of ``plan`` is in the kernel."""
        if isinstance(command, Put):
            self.rows[command.key] = command.value
        else:
            self.rows.pop(command.key, None)

    def owner(self, addr: bytes) -> Workload | None:
        """The workload whose identity a peer at this address has."""
        network = self._store.home.network
        uid = self._store.claims.owner(network, addr)
        return None if uid is None else self._store.workloads.get(uid)
