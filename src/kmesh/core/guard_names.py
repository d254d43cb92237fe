"""Ids of policies and identities, and their names in the kernel for the next agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.layout import Verdict
from kmesh.core.commands import NAME, VERDICT, Drop, Op, Phase, Put
from kmesh.core.ids import Ids
from kmesh.core.model import Identity

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ROOM = 512
IDENTITY = 1 << 31
SEPARATOR = "\n"  # in no name of Kubernetes


class GuardNames:
    """Names to ids. Rows that tell a name are planned when it gets its id."""

    def __init__(self) -> None:
        self.identities: dict[Identity, int] = {}
        self._policies = Ids()
        self._known: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        self._identity_ids = Ids()
        self._ops: list[Op] = []
        self.counted = False
        self.version = 0

    def adopt(self, names: Mapping[int, str]) -> None:
        """Take over the ids that lie in the kernel."""
        for id_ in names:
            (self._identity_ids if id_ & IDENTITY else self._policies).reserve(id_ & ~IDENTITY)
        for id_, name in names.items():
            if not id_ & IDENTITY:
                if self._policies.bind(name, id_):
                    self._known[name], self._keys[id_] = id_, name
            elif self._identity_ids.bind(name, id_ & ~IDENTITY):
                self.identities[Identity(*name.split(SEPARATOR))] = id_ & ~IDENTITY

    def policy(self, key: str) -> int:
        """The id of a policy."""
        id_ = self._known.get(key)
        if id_ is None:
            self.version += 1
            id_ = self._known[key] = self._policies.get(key)
            self._keys[id_] = key
            self._name(id_, key)
            self._ops += [_count(id_, verdict) for verdict in Verdict]
        return id_

    def identity(self, identity: Identity) -> int:
        """The id of an identity."""
        id_ = self.identities.get(identity)
        if id_ is None:
            self.version += 1
            name = SEPARATOR.join(identity)
            id_ = self.identities[identity] = self._identity_ids.get(name)
            self._name(id_ | IDENTITY, name)
        return id_

    @property
    def used(self) -> set[str]:
        """Policies that have an id."""
        return set(self._known)

    def name(self, id_: int) -> str:
        """The policy behind an id, empty when it has none."""
        return self._keys.get(id_, "")

    def policies(self) -> dict[int, str]:
        """Every policy that has an id, by it."""
        return dict(self._keys)

    def rows(self) -> dict[bytes, bytes]:
        """The rows of km_policy, by packed id."""
        named = self.policies()
        named |= {id_ | IDENTITY: SEPARATOR.join(who) for who, id_ in self.identities.items()}
        return {id_.to_bytes(4, "little"): _packed(name) for id_, name in named.items()}

    def counters(self) -> dict[bytes, bytes]:
        """The rows of km_verdict, whatever they count."""
        ids = [*self._known.values(), *([0] if self.counted else [])]
        return {_count_key(id_, verdict): b"" for id_ in ids for verdict in Verdict}

    def take_ops(self) -> list[Op]:
        """Operations for the names that got an id since the last call."""
        ops, self._ops = self._ops, []
        if not self.counted:
            self.counted = True
            self.version += 1
            ops += [_count(0, verdict) for verdict in Verdict]
        return ops

    def forget(self, used: Collection[str]) -> list[Op]:
        """Operations that remove the policies which nothing names any more."""
        ops = []
        for key in [key for key in self._known if key not in used]:
            self.version += 1
            id_ = self._known.pop(key)
            del self._keys[id_]
            self._policies.drop(key)
            ops.append(Op(Phase.DROP_RULES, Drop(NAME, id_.to_bytes(4, "little")), None))
            ops += [
                Op(Phase.DROP_RULES, Drop(VERDICT, _count_key(id_, verdict)), None)
                for verdict in Verdict
            ]
        return ops

    def _name(self, id_: int, name: str) -> None:
        put = Put(NAME, id_.to_bytes(4, "little"), _packed(name))
        self._ops.append(Op(Phase.RULES, put, None))


def _packed(name: str) -> bytes:
    return name.encode()[: ROOM - 1].ljust(ROOM, b"\0")


def _count(id_: int, verdict: Verdict) -> Op:
    """A counter; one that is there already keeps its count."""
    return Op(Phase.RULES, Put(VERDICT, _count_key(id_, verdict), b""), None)


def _count_key(id_: int, verdict: Verdict) -> bytes:
    return id_.to_bytes(4, "little") + verdict.to_bytes(4, "little")
