"""Orders the map writes that lead from what the kernel holds to what is wanted.

This is the only place that knows the order (commands.Phase), and it does not know how a map is
written. The law it obeys is in the architecture document: after any prefix of the operations each
look-up gives the old answer or the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kmesh.abi.layout import SLOT_SIZE, Cidr, CidrKey, Config, VipAction, pack_vip
from kmesh.core.commands import CIDR, CONFIG, VIP, Drop, Op, Phase, Put, WriteSlots
from kmesh.core.mirror import Records, Segment, record
from kmesh.core.quick import NEW
from kmesh.core.segments import Full, Segments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kmesh.core.mirror import Realised
    from kmesh.core.render import Rows, Target
    from kmesh.core.store import Frontend

CONFIG_KEY = bytes(4)
ANY_PORT, EVERYBODY, NO_SLOTS = bytes(2), bytes(4), bytes(4)
EXACT = 128
# A member of an enumeration is looked up by a function of its own: ten times a name's time.
_BALANCE, _SLOTS = VipAction.BALANCE, Phase.SLOTS
_PUT_OWN_PORT, _PUT_OWN_ANY_PORT = Phase.PUT_OWN_PORT, Phase.PUT_OWN_ANY_PORT
_PUT_PORT, _PUT_ANY_PORT = Phase.PUT_PORT, Phase.PUT_ANY_PORT


class Planner:
    """The mirror of the kernel's tables, and the plans to change them.

    ``plan`` reserves what it needs; ``done`` tells that an operation is in the kernel, ``abandon``
    that operations will not be applied.
    """

    def __init__(self, segments: Segments, vip_capacity: int, open_reasons: int = 0) -> None:
        self.segments = segments
        self.vip_capacity = vip_capacity
        self.open_reasons = open_reasons
        self.records = Records()
        self.frontends: dict[Frontend, set[bytes]] = {}
        self.cidrs: set[Frontend] = set()
        self.cidrs_on = False
        self._by_content: dict[tuple[int, bytes], Segment] = {}
        self._twins = False  # whether segments with equal content were adopted
        self._users: dict[int, int] = {}
        self._pending: dict[bytes, bytes] = {}
        self._promised = 0
        self._gen = 0
        self._config_lost = False

    def adopt(self, key: bytes, target: Target, segment: Segment | None) -> None:
        """Take over a record found in the kernel. One whose segment cannot be believed (None
        although it balances, or overlapping another) equals no target, so it will be replaced."""
        segments = self.records.segments
        if segment is not None and segments.get(segment.base) != segment:
            if not self.segments.reserve(segment.base, len(segment.slots) // SLOT_SIZE):
                segment, target = None, target._replace(slots=b"")
            else:
                same = self._by_content.setdefault((segment.service, segment.slots), segment)
                self._twins = self._twins or same is not segment
                segments[segment.base] = segment
                self._gen = max(self._gen, segment.gen)
        if segment is not None:
            self._users[segment.base] = self._users.get(segment.base, 0) + 1
        self._keep(key, record(target, segment).pack(), frontend_of(key))

    def found(self, key: bytes, what: Realised | None, now: float) -> None:
        """A record is not in the kernel as it was written: none is there, or another."""
        old = self.records.raw.get(key)
        if what is not None:
            self._keep(key, record(*what).pack(), frontend_of(key))
        elif old is not None:
            del self.records[key]
            self._forget(key)
        self._unlink(old, now)

    def users(self, segment: Segment) -> list[bytes]:
        """Keys of the records that lead to a segment; looks at every record."""
        if not self.uses(segment):
            return []
        base = segment.base.to_bytes(4, "little")
        found = (key for key, raw in self.records.raw.items() if raw.startswith(base))
        return [key for key in found if self.records[key].segment is not None]

    def used(self) -> list[Segment]:
        """Segments that records lead to."""
        return [self.records.segments[base] for base in self._users]

    def uses(self, segment: Segment) -> bool:
        """Whether some record leads to a segment."""
        return segment.base in self._users and self.records.segments[segment.base] == segment

    def lose_config(self) -> None:
        """The row of km_config is not as it was written."""
        self._config_lost = True

    def plan(self, frontend: Frontend, wanted: Rows, drops: bool = True) -> list[Op]:
        """Operations for one frontend, without ``drops`` only those that put something.

        Raises Full (and reserves nothing) when it does not fit.
        """
        records, puts, fresh = self.records.raw, [], 0
        for key, target in wanted.items():
            old = records.get(key)
            if old is None:
                fresh += 1
            elif self._says(old, target):
                continue
            puts.append((key, target))
        if len(records) + self._promised + fresh > self.vip_capacity:
            raise Full(VIP, len(records) + self._promised + fresh)
        ops: list[Op] = []
        try:
            for key, target in puts:
                self._put(frontend, key, target, ops)
        except Full:
            self.abandon(ops)
            raise
        if drops:
            stale = (key for key in self.frontends.get(frontend, ()) if key not in wanted)
            ops += [Op(_drop_phase(key), Drop(VIP, key), frontend) for key in stale]
        if frontend[1] != EXACT:
            ops += self._cidr(frontend, bool(wanted), drops)
        return ops

    def _says(self, raw: bytes, target: Target) -> bool:
        """Whether a record says what it should."""
        action, reason, service, port, slots, flags = target
        base = gen = 0
        if slots:
            segment = self._by_content.get((service, slots))
            if segment is None:
                return self._twins and self.records.made(raw).target == target
            base, gen = segment.base, segment.gen
        count = len(slots) // SLOT_SIZE
        same = raw == pack_vip(base, count, service, gen, port, action, reason, flags, 0, 0, 0)
        return same or (self._twins and self.records.made(raw).target == target)

    def tidy(self) -> list[Op]:
        """Operations for when nothing is pending: without CIDR VIPs the trie need not be asked."""
        if self._config_lost:
            phase = Phase.CIDRS_ON if self.cidrs_on else Phase.CIDRS_OFF
            return [Op(phase, self.config(self.cidrs_on), None)]
        if self.cidrs or not self.cidrs_on:
            return []
        return [Op(Phase.CIDRS_OFF, self.config(cidrs=False), None)]

    def done(self, op: Op, now: float) -> None:
        """An operation of a plan is in the kernel; ``now`` is seconds of a monotonic clock."""
        command: Any = op.command
        owner: Any = op.owner
        kind = type(command)
        if kind is not Put and kind is not Drop:
            return
        table, key = command[0], command[1]
        if table == VIP and kind is Put:
            old, new = self.records.raw.get(key), self._pending.pop(key)
            if old is None:
                self._promised -= 1
                self._keep(key, new, owner)
            else:
                self.records.raw[key] = new
                self._unlink(old, now)
        elif table == VIP:
            self._unlink(self.records.raw.pop(key, None), now)
            self._forget(key)
        elif command.table == CIDR:
            cidr = CidrKey.unpack(command.key)
            change = self.cidrs.add if isinstance(command, Put) else self.cidrs.discard
            change((cidr.addr, cidr.plen))
        elif command.table == CONFIG:
            self.cidrs_on = op.phase is Phase.CIDRS_ON
            self._config_lost = False

    def abandon(self, ops: Iterable[Op], now: float = 0.0) -> None:
        """These operations of a plan will not be applied: give back what they reserved."""
        for op in ops:
            command = op.command
            if isinstance(command, Put) and command.table == VIP:
                self._promised -= command.key not in self.records
                self._unlink(self._pending.pop(command.key), now)

    def config(self, cidrs: bool) -> Put:
        """The row of km_config."""
        return Put(CONFIG, CONFIG_KEY, Config(self.open_reasons, int(cidrs), 0).pack())

    def _put(self, frontend: Frontend, key: bytes, target: Target, ops: list[Op]) -> None:
        segment, base, gen = None, 0, 0
        action, reason, service, port, slots, flags = target
        if action == _BALANCE:
            segment = self._by_content.get((service, slots))
            if segment is None:
                segment = self._new_segment(service, slots)
                base, gen = segment.base, segment.gen
                write = NEW(WriteSlots, (base, slots, gen))
                ops.append(NEW(Op, (_SLOTS, write, frontend)))
            base, gen = segment.base, segment.gen
            self._users[base] = self._users.get(base, 0) + 1
        self._promised += key not in self.records.raw
        count = len(slots) // SLOT_SIZE
        value = pack_vip(base, count, service, gen, port, action, reason, flags, 0, 0, 0)
        self._pending[key] = value
        ops.append(NEW(Op, (_put_phase(key), NEW(Put, (VIP, key, value)), frontend)))

    def _new_segment(self, service: int, slots: bytes) -> Segment:
        base = self.segments.take(len(slots) // SLOT_SIZE)
        self._gen = self._gen % 0xFFFF + 1
        segment: Segment = NEW(Segment, (base, self._gen, service, slots))
        self._by_content[service, slots] = self.records.segments[base] = segment
        return segment

    def _keep(self, key: bytes, new: bytes, frontend: Frontend) -> None:
        self.records.raw[key] = new
        keys = self.frontends.get(frontend)
        if keys is None:
            self.frontends[frontend] = {key}
        else:
            keys.add(key)

    def _forget(self, key: bytes) -> None:
        keys = self.frontends.get(frontend_of(key), set())
        keys.discard(key)
        if not keys:
            self.frontends.pop(frontend_of(key), None)

    def _unlink(self, old: bytes | None, now: float) -> None:
        if old is None or old.startswith(NO_SLOTS, 4):
            return
        base = int.from_bytes(old[:4], "little")
        users = self._users[base] - 1
        if users:
            self._users[base] = users
            return
        del self._users[base]
        segment = self.records.segments.pop(base)
        if self._by_content.get((segment.service, segment.slots)) is segment:
            del self._by_content[segment.service, segment.slots]
        self.segments.release(base, len(segment.slots) // SLOT_SIZE, now)

    def _cidr(self, frontend: Frontend, wanted: bool, drops: bool) -> list[Op]:
        addr, plen = frontend
        if wanted == (frontend in self.cidrs):
            return []
        key = CidrKey(plen, addr).pack()
        if not wanted:
            return [Op(Phase.DROP_CIDR, Drop(CIDR, key), frontend)] if drops else []
        put = Op(Phase.PUT_CIDR, Put(CIDR, key, Cidr(addr, plen).pack()), frontend)
        if self.cidrs_on:
            return [put]
        return [Op(Phase.CIDRS_ON, self.config(cidrs=True), frontend), put]


def order(ops: Iterable[Op]) -> list[Op]:
    """The operations of any number of frontends in an order that obeys the law.

    A longer prefix hides a shorter one. What is put must hide the shorter prefix before that one
    changes, and what is dropped may uncover it only when it is as wanted: puts go from the exact
    addresses to the shortest prefix, drops the other way.
    """
    return sorted(ops, key=_place)


def by_phase(ops: Iterable[Op]) -> list[Op]:
    """The same for operations of exact addresses alone, none of which hides another."""
    return sorted(ops, key=lambda op: op[0])


def _place(op: Op) -> int:
    phase, _, owner = op
    if phase == Phase.SLOTS or not isinstance(owner, tuple):
        return phase << 16
    if phase < Phase.DROP_CIDR:
        return _PUTS + (EXACT - owner[1] << 8) + phase
    return _DROPS + (owner[1] << 8) + phase


_PUTS, _DROPS = Phase.PUT_OWN_PORT << 16, Phase.DROP_CIDR << 16


def frontend_of(key: bytes) -> Frontend:
    """The frontend of a packed km_vip_key."""
    return key[:16], key[22]


def _put_phase(key: bytes) -> Phase:
    any_port = key[20:22] == ANY_PORT
    if key[16:20] != EVERYBODY:
        return _PUT_OWN_ANY_PORT if any_port else _PUT_OWN_PORT
    return _PUT_ANY_PORT if any_port else _PUT_PORT


def _drop_phase(key: bytes) -> Phase:
    if key[16:20] != EVERYBODY:
        return Phase.DROP_OWN
    return Phase.DROP_ANY_PORT if key[20:22] == ANY_PORT else Phase.DROP_PORT
