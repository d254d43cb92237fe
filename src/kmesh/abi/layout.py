"""What lies in the maps, as Python sees it. Written by tools/gen_layout.py: do not edit.

Fields are in the order of the C structure; addresses are 16 bytes in network order. ``pack_`` and
the name of a structure is what ``pack`` of its class does, of fields.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator


class VipAction(IntEnum):
    """enum km_action."""

    NONE = 0
    BALANCE = 1
    REFUSE = 2
    PASS = 3


class Reason(IntEnum):
    """enum km_reason."""

    NOT_ENROLLED = 0
    NOT_MESH = 1
    OTHER_PROTOCOL = 2
    BALANCED = 3
    PASSTHROUGH = 4
    INVISIBLE = 5
    NO_ENDPOINT = 6
    STRICT_NO_LOCAL = 7
    UNKNOWN_PORT = 8
    WAYPOINT = 9
    FAMILY = 10
    INCONSISTENT = 11
    OPENED = 12
    RESTORED = 13
    NOTHING_TO_RESTORE = 14
    NO_STORAGE = 15
    ALLOWED = 16
    EXEMPT = 17
    REPLY = 18
    DENIED = 19
    NOT_ALLOWED = 20
    WAITING = 21
    OVER_CAPACITY = 22
    UNLISTED = 23
    MOVED = 24
    GONE = 25
    ABANDONED = 26


REASONS = 32


class Hook(IntEnum):
    """enum km_hook."""

    CONNECT4 = 0
    CONNECT6 = 1
    SENDMSG4 = 2
    SENDMSG6 = 3
    RECVMSG4 = 4
    RECVMSG6 = 5
    GETPEERNAME4 = 6
    GETPEERNAME6 = 7
    LOOKUP = 8
    EVICT = 9
    INGRESS = 10
    EARLY = 11


HOOKS = 12


_VIP_KEY = Struct("<16sIHBB")
pack_vip_key = _VIP_KEY.pack
VIP_KEY_SIZE = 24


class VipKey(NamedTuple):
    """struct km_vip_key, 24 bytes."""

    addr: bytes
    view: int
    port: int
    plen: int
    zero: int

    def pack(self) -> bytes:
        """The 24 bytes of the map."""
        return _VIP_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_VIP_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _VIP_KEY.iter_unpack(raw))


_VIP = Struct("<IIIHHBBHIII")
pack_vip = _VIP.pack
VIP_SIZE = 32


class Vip(NamedTuple):
    """struct km_vip, 32 bytes."""

    base: int
    slots: int
    service: int
    gen: int
    port: int
    action: int
    reason: int
    flags: int
    waypoint_base: int
    waypoint_slots: int
    check: int

    def pack(self) -> bytes:
        """The 32 bytes of the map."""
        return _VIP.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_VIP.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _VIP.iter_unpack(raw))


_SLOT = Struct("<16sIHH")
pack_slot = _SLOT.pack
SLOT_SIZE = 24


class Slot(NamedTuple):
    """struct km_slot, 24 bytes."""

    addr: bytes
    workload: int
    port: int
    gen: int

    def pack(self) -> bytes:
        """The 24 bytes of the map."""
        return _SLOT.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_SLOT.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _SLOT.iter_unpack(raw))


_CIDR_KEY = Struct("<I16s")
pack_cidr_key = _CIDR_KEY.pack
CIDR_KEY_SIZE = 20


class CidrKey(NamedTuple):
    """struct km_cidr_key, 20 bytes."""

    plen: int
    addr: bytes

    def pack(self) -> bytes:
        """The 20 bytes of the map."""
        return _CIDR_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_CIDR_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _CIDR_KEY.iter_unpack(raw))


_CIDR = Struct("<16sI")
pack_cidr = _CIDR.pack
CIDR_SIZE = 20


class Cidr(NamedTuple):
    """struct km_cidr, 20 bytes."""

    base: bytes
    plen: int

    def pack(self) -> bytes:
        """The 20 bytes of the map."""
        return _CIDR.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_CIDR.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _CIDR.iter_unpack(raw))


_ENROL_KEY = Struct("<Q")
pack_enrol_key = _ENROL_KEY.pack
ENROL_KEY_SIZE = 8


class EnrolKey(NamedTuple):
    """struct km_enrol_key, 8 bytes."""

    netns: int

    def pack(self) -> bytes:
        """The 8 bytes of the map."""
        return _ENROL_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_ENROL_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _ENROL_KEY.iter_unpack(raw))


_ENROL = Struct("<IIII")
pack_enrol = _ENROL.pack
ENROL_SIZE = 16


class Enrol(NamedTuple):
    """struct km_enrol, 16 bytes."""

    workload: int
    view: int
    flags: int
    check: int

    def pack(self) -> bytes:
        """The 16 bytes of the map."""
        return _ENROL.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_ENROL.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _ENROL.iter_unpack(raw))


_POD = Struct("<512s")
pack_pod = _POD.pack
POD_SIZE = 512


class Pod(NamedTuple):
    """struct km_pod, 512 bytes."""

    uid: bytes

    def pack(self) -> bytes:
        """The 512 bytes of the map."""
        return _POD.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_POD.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _POD.iter_unpack(raw))


_ORIGIN = Struct("<16s16sHHIII")
pack_origin = _ORIGIN.pack
ORIGIN_SIZE = 48


class Origin(NamedTuple):
    """struct km_origin, 48 bytes."""

    vip: bytes
    backend: bytes
    vip_port: int
    backend_port: int
    service: int
    workload: int
    zero: int

    def pack(self) -> bytes:
        """The 48 bytes of the map."""
        return _ORIGIN.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_ORIGIN.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _ORIGIN.iter_unpack(raw))


_RECENT = Struct("<Q48sII")
pack_recent = _RECENT.pack
RECENT_SIZE = 64


class Recent(NamedTuple):
    """struct km_recent, 64 bytes."""

    socket: int
    origin: bytes
    claims: int
    crowded: int

    def pack(self) -> bytes:
        """The 64 bytes of the map."""
        return _RECENT.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_RECENT.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _RECENT.iter_unpack(raw))


_FLOW_KEY = Struct("<Q16sH6s")
pack_flow_key = _FLOW_KEY.pack
FLOW_KEY_SIZE = 32


class FlowKey(NamedTuple):
    """struct km_flow_key, 32 bytes."""

    socket: int
    backend: bytes
    port: int
    zero: bytes

    def pack(self) -> bytes:
        """The 32 bytes of the map."""
        return _FLOW_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_FLOW_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _FLOW_KEY.iter_unpack(raw))


_FLOW = Struct("<16sHHI")
pack_flow = _FLOW.pack
FLOW_SIZE = 24


class Flow(NamedTuple):
    """struct km_flow, 24 bytes."""

    vip: bytes
    port: int
    zero: int
    check: int

    def pack(self) -> bytes:
        """The 24 bytes of the map."""
        return _FLOW.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_FLOW.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _FLOW.iter_unpack(raw))


_CONFIG = Struct("<QII")
pack_config = _CONFIG.pack
CONFIG_SIZE = 16


class Config(NamedTuple):
    """struct km_config, 16 bytes."""

    open_reasons: int
    cidrs: int
    zero: int

    def pack(self) -> bytes:
        """The 16 bytes of the map."""
        return _CONFIG.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_CONFIG.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _CONFIG.iter_unpack(raw))


_SWITCH = Struct("<IIIIIIIIII")
pack_switch = _SWITCH.pack
SWITCH_SIZE = 40


class Switch(NamedTuple):
    """struct km_switch, 40 bytes."""

    authz_off: int
    metrics_off: int
    access_log: int
    log_level: int
    sample: int
    early_refusal: int
    configured: int
    kept: int
    avoid_ms: int
    deadline: int

    def pack(self) -> bytes:
        """The 40 bytes of the map."""
        return _SWITCH.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_SWITCH.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _SWITCH.iter_unpack(raw))


_SENT_KEY = Struct("<16sIHH")
pack_sent_key = _SENT_KEY.pack
SENT_KEY_SIZE = 24


class SentKey(NamedTuple):
    """struct km_sent_key, 24 bytes."""

    remote: bytes
    workload: int
    remote_port: int
    local_port: int

    def pack(self) -> bytes:
        """The 24 bytes of the map."""
        return _SENT_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_SENT_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _SENT_KEY.iter_unpack(raw))


_SENT = Struct("<QQ")
pack_sent = _SENT.pack
SENT_SIZE = 16


class Sent(NamedTuple):
    """struct km_sent, 16 bytes."""

    time: int
    socket: int

    def pack(self) -> bytes:
        """The 16 bytes of the map."""
        return _SENT.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_SENT.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _SENT.iter_unpack(raw))


_META = Struct("<32sQ")
pack_meta = _META.pack
META_SIZE = 40


class Meta(NamedTuple):
    """struct km_meta, 40 bytes."""

    fingerprint: bytes
    revision: int

    def pack(self) -> bytes:
        """The 40 bytes of the map."""
        return _META.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_META.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _META.iter_unpack(raw))


_AVOID_KEY = Struct("<16sIHH")
pack_avoid_key = _AVOID_KEY.pack
AVOID_KEY_SIZE = 24


class AvoidKey(NamedTuple):
    """struct km_avoid_key, 24 bytes."""

    addr: bytes
    workload: int
    port: int
    zero: int

    def pack(self) -> bytes:
        """The 24 bytes of the map."""
        return _AVOID_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_AVOID_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _AVOID_KEY.iter_unpack(raw))


_AVOID = Struct("<QII")
pack_avoid = _AVOID.pack
AVOID_SIZE = 16


class Avoid(NamedTuple):
    """struct km_avoid, 16 bytes."""

    until: int
    failures: int
    service: int

    def pack(self) -> bytes:
        """The 16 bytes of the map."""
        return _AVOID.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_AVOID.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _AVOID.iter_unpack(raw))


_AVOIDING = Struct("<Q")
pack_avoiding = _AVOIDING.pack
AVOIDING_SIZE = 8


class Avoiding(NamedTuple):
    """struct km_avoiding, 8 bytes."""

    until: int

    def pack(self) -> bytes:
        """The 8 bytes of the map."""
        return _AVOIDING.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_AVOIDING.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _AVOIDING.iter_unpack(raw))


class GuardMode(IntEnum):
    """enum km_mode."""

    REFUSE = 0
    ALLOW = 1
    EVALUATE = 2


class Dimension(IntEnum):
    """enum km_dimension."""

    SOURCE = 0
    DESTINATION = 1
    IDENTITY = 2
    PORT = 3


class Verdict(IntEnum):
    """enum km_verdict_kind."""

    ALLOWED = 0
    DENIED = 1
    DRY_ALLOWED = 2
    DRY_DENIED = 3


class EventKind(IntEnum):
    """enum km_event_kind."""

    DENIED = 0
    DRY_RUN = 1
    OPEN = 2
    PERIODIC = 3
    CLOSE = 4
    FAILED = 5
    SLOW = 6


class LogLevel(IntEnum):
    """enum km_log_level."""

    ERROR = 0
    WARNING = 1
    INFO = 2
    DEBUG = 3


class LogCode(IntEnum):
    """enum km_log_code."""

    STEERED = 0
    LEFT = 1
    REFUSED = 2
    FORGETFUL = 3
    TORN = 4
    LET_IN = 5
    KEPT_OUT = 6
    WOULD_KEEP_OUT = 7
    EVICTED = 8
    UNSEEN = 9


_GUARD_KEY = Struct("<16s")
pack_guard_key = _GUARD_KEY.pack
GUARD_KEY_SIZE = 16


class GuardKey(NamedTuple):
    """struct km_guard_key, 16 bytes."""

    addr: bytes

    def pack(self) -> bytes:
        """The 16 bytes of the map."""
        return _GUARD_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_GUARD_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _GUARD_KEY.iter_unpack(raw))


_GUARD = Struct("<IIBBHHHHHIIIIIII")
pack_guard = _GUARD.pack
GUARD_SIZE = 48


class Guard(NamedTuple):
    """struct km_guard, 48 bytes."""

    workload: int
    set: int
    mode: int
    reason: int
    flags: int
    words: int
    deny: int
    allow: int
    dry_deny: int
    sources: int
    known: int
    unknown: int
    ports: int
    destinations: int
    owners: int
    check: int

    def pack(self) -> bytes:
        """The 48 bytes of the map."""
        return _GUARD.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_GUARD.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _GUARD.iter_unpack(raw))


_ROW = Struct("<Q")
pack_row = _ROW.pack
ROW_SIZE = 8


class Row(NamedTuple):
    """struct km_row, 8 bytes."""

    word: int

    def pack(self) -> bytes:
        """The 8 bytes of the map."""
        return _ROW.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_ROW.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _ROW.iter_unpack(raw))


_PREFIX_KEY = Struct("<III16s")
pack_prefix_key = _PREFIX_KEY.pack
PREFIX_KEY_SIZE = 28


class PrefixKey(NamedTuple):
    """struct km_prefix_key, 28 bytes."""

    plen: int
    set: int
    dimension: int
    addr: bytes

    def pack(self) -> bytes:
        """The 28 bytes of the map."""
        return _PREFIX_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_PREFIX_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _PREFIX_KEY.iter_unpack(raw))


_PREFIX = Struct("<20sIII")
pack_prefix = _PREFIX.pack
PREFIX_SIZE = 32


class Prefix(NamedTuple):
    """struct km_prefix, 32 bytes."""

    covers: bytes
    set: int
    dimension: int
    row: int

    def pack(self) -> bytes:
        """The 32 bytes of the map."""
        return _PREFIX.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_PREFIX.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _PREFIX.iter_unpack(raw))


_MATCH_KEY = Struct("<III")
pack_match_key = _MATCH_KEY.pack
MATCH_KEY_SIZE = 12


class MatchKey(NamedTuple):
    """struct km_match_key, 12 bytes."""

    set: int
    dimension: int
    value: int

    def pack(self) -> bytes:
        """The 12 bytes of the map."""
        return _MATCH_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_MATCH_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _MATCH_KEY.iter_unpack(raw))


_MATCH = Struct("<II")
pack_match = _MATCH.pack
MATCH_SIZE = 8


class Match(NamedTuple):
    """struct km_match, 8 bytes."""

    row: int
    check: int

    def pack(self) -> bytes:
        """The 8 bytes of the map."""
        return _MATCH.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_MATCH.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _MATCH.iter_unpack(raw))


_PEER_KEY = Struct("<16s")
pack_peer_key = _PEER_KEY.pack
PEER_KEY_SIZE = 16


class PeerKey(NamedTuple):
    """struct km_peer_key, 16 bytes."""

    addr: bytes

    def pack(self) -> bytes:
        """The 16 bytes of the map."""
        return _PEER_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_PEER_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _PEER_KEY.iter_unpack(raw))


_PEER = Struct("<III")
pack_peer = _PEER.pack
PEER_SIZE = 12


class Peer(NamedTuple):
    """struct km_peer, 12 bytes."""

    identity: int
    workload: int
    check: int

    def pack(self) -> bytes:
        """The 12 bytes of the map."""
        return _PEER.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_PEER.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _PEER.iter_unpack(raw))


_EXEMPT = Struct("<20s")
pack_exempt = _EXEMPT.pack
EXEMPT_SIZE = 20


class Exempt(NamedTuple):
    """struct km_exempt, 20 bytes."""

    covers: bytes

    def pack(self) -> bytes:
        """The 20 bytes of the map."""
        return _EXEMPT.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_EXEMPT.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _EXEMPT.iter_unpack(raw))


_VERDICT_KEY = Struct("<II")
pack_verdict_key = _VERDICT_KEY.pack
VERDICT_KEY_SIZE = 8


class VerdictKey(NamedTuple):
    """struct km_verdict_key, 8 bytes."""

    policy: int
    verdict: int

    def pack(self) -> bytes:
        """The 8 bytes of the map."""
        return _VERDICT_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_VERDICT_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _VERDICT_KEY.iter_unpack(raw))


_POLICY = Struct("<512s")
pack_policy = _POLICY.pack
POLICY_SIZE = 512


class Policy(NamedTuple):
    """struct km_policy, 512 bytes."""

    name: bytes

    def pack(self) -> bytes:
        """The 512 bytes of the map."""
        return _POLICY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_POLICY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _POLICY.iter_unpack(raw))


_DENIAL_KEY = Struct("<16sII")
pack_denial_key = _DENIAL_KEY.pack
DENIAL_KEY_SIZE = 24


class DenialKey(NamedTuple):
    """struct km_denial_key, 24 bytes."""

    remote: bytes
    workload: int
    policy: int

    def pack(self) -> bytes:
        """The 24 bytes of the map."""
        return _DENIAL_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_DENIAL_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _DENIAL_KEY.iter_unpack(raw))


_DENIAL = Struct("<QQ")
pack_denial = _DENIAL.pack
DENIAL_SIZE = 16


class Denial(NamedTuple):
    """struct km_denial, 16 bytes."""

    time: int
    suppressed: int

    def pack(self) -> bytes:
        """The 16 bytes of the map."""
        return _DENIAL.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_DENIAL.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _DENIAL.iter_unpack(raw))


_EVENT = Struct("<QQQQQQ16s16s16sIIIIIIIHHHHBBBB")
pack_event = _EVENT.pack
EVENT_SIZE = 136


class Event(NamedTuple):
    """struct km_event, 136 bytes."""

    time: int
    start: int
    socket: int
    sent: int
    received: int
    suppressed: int
    local: bytes
    remote: bytes
    vip: bytes
    workload: int
    service: int
    policy: int
    rtt_us: int
    min_rtt_us: int
    retransmits: int
    lost: int
    local_port: int
    remote_port: int
    vip_port: int
    error: int
    kind: int
    reason: int
    protocol: int
    direction: int

    def pack(self) -> bytes:
        """The 136 bytes of the map."""
        return _EVENT.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_EVENT.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _EVENT.iter_unpack(raw))


_TRAFFIC_KEY = Struct("<16sIIHHBBH")
pack_traffic_key = _TRAFFIC_KEY.pack
TRAFFIC_KEY_SIZE = 32


class TrafficKey(NamedTuple):
    """struct km_traffic_key, 32 bytes."""

    remote: bytes
    workload: int
    service: int
    port: int
    result: int
    direction: int
    protocol: int
    zero: int

    def pack(self) -> bytes:
        """The 32 bytes of the map."""
        return _TRAFFIC_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_TRAFFIC_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _TRAFFIC_KEY.iter_unpack(raw))


_TRAFFIC = Struct("<QQQQQQQQQQ")
pack_traffic = _TRAFFIC.pack
TRAFFIC_SIZE = 80


class Traffic(NamedTuple):
    """struct km_traffic, 80 bytes."""

    since: int
    opened: int
    closed: int
    failed: int
    sent: int
    received: int
    rtt_us: int
    min_rtt_us: int
    retransmits: int
    lost: int

    def pack(self) -> bytes:
        """The 80 bytes of the map."""
        return _TRAFFIC.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_TRAFFIC.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _TRAFFIC.iter_unpack(raw))


_LOG = Struct("<Q16s16sIIHHBBBB")
pack_log = _LOG.pack
LOG_SIZE = 56


class Log(NamedTuple):
    """struct km_log, 56 bytes."""

    time: int
    source: bytes
    target: bytes
    workload: int
    what: int
    source_port: int
    target_port: int
    code: int
    level: int
    hook: int
    reason: int

    def pack(self) -> bytes:
        """The 56 bytes of the map."""
        return _LOG.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_LOG.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _LOG.iter_unpack(raw))


class Tally(IntEnum):
    """enum km_tally_kind."""

    ROWS = 0
    RECORDS = 1
    RECORDS_LOST = 2
    UNSEEN = 3
    LOGS = 4
    LOGS_LOST = 5
    FLOWS = 6
    AVOIDED = 7
    FORGIVEN = 8
    CROWDED = 9


TALLIES = 10


class Direction(IntEnum):
    """enum km_direction."""

    OUTBOUND = 0
    INBOUND = 1


_CONN = Struct("<16s16s16sQQQIIIIHHHBB")
pack_conn = _CONN.pack
CONN_SIZE = 96


class Conn(NamedTuple):
    """struct km_conn, 96 bytes."""

    local: bytes
    remote: bytes
    vip: bytes
    start: int
    sent: int
    received: int
    retransmits: int
    lost: int
    workload: int
    service: int
    local_port: int
    remote_port: int
    vip_port: int
    direction: int
    state: int

    def pack(self) -> bytes:
        """The 96 bytes of the map."""
        return _CONN.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_CONN.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _CONN.iter_unpack(raw))


_KEPT = Struct("<96s4sI")
pack_kept = _KEPT.pack
KEPT_SIZE = 104


class Kept(NamedTuple):
    """struct km_kept, 104 bytes."""

    conn: bytes
    lock: bytes
    zero: int

    def pack(self) -> bytes:
        """The 104 bytes of the map."""
        return _KEPT.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_KEPT.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _KEPT.iter_unpack(raw))


_WATCHED = Struct("<QQ96s4s12s")
pack_watched = _WATCHED.pack
WATCHED_SIZE = 128


class Watched(NamedTuple):
    """struct km_watched, 128 bytes."""

    socket: int
    address: int
    conn: bytes
    lock: bytes
    zero: bytes

    def pack(self) -> bytes:
        """The 128 bytes of the map."""
        return _WATCHED.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_WATCHED.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _WATCHED.iter_unpack(raw))


_OWN = Struct("<16s16sII")
pack_own = _OWN.pack
OWN_SIZE = 40


class Own(NamedTuple):
    """struct km_own, 40 bytes."""

    ipv4: bytes
    ipv6: bytes
    zero: int
    check: int

    def pack(self) -> bytes:
        """The 40 bytes of the map."""
        return _OWN.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_OWN.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _OWN.iter_unpack(raw))


_GONE_KEY = Struct("<16s")
pack_gone_key = _GONE_KEY.pack
GONE_KEY_SIZE = 16


class GoneKey(NamedTuple):
    """struct km_gone_key, 16 bytes."""

    addr: bytes

    def pack(self) -> bytes:
        """The 16 bytes of the map."""
        return _GONE_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the bytes of the map."""
        return cls(*_GONE_KEY.unpack(raw))

    @classmethod
    def unpack_many(cls, raw: bytes) -> Iterator[Self]:
        """From the bytes of many, one after the other."""
        return map(cls._make, _GONE_KEY.iter_unpack(raw))


FINGERPRINT = bytes.fromhex("b2e1d9c6566d6b2636682fcdc5ecc009032810b206f3396a7e1128cb962a9f3a")
