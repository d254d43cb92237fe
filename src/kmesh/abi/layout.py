"""What lies in the maps, as Python sees it. Written by tools/gen_layout.py: do not edit.

Fields are in the order of the C structure; addresses are 16 bytes in network order.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple, Self


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


HOOKS = 8


_VIP_KEY = Struct("<16sIHBB")
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


_VIP = Struct("<IIIHHBBHIII")
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


_SLOT = Struct("<16sIHH")
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


_CIDR_KEY = Struct("<I16s")
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


_CIDR = Struct("<16sI")
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


_ENROL_KEY = Struct("<Q")
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


_ENROL = Struct("<IIII")
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


_POD = Struct("<512s")
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


_ORIGIN = Struct("<16s16sHHIII")
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


_FLOW_KEY = Struct("<Q16sH6s")
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


_FLOW = Struct("<16sHHI")
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


_CONFIG = Struct("<QII")
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


_META = Struct("<32sQ")
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


FINGERPRINT = bytes.fromhex("2816373b887d2f0a275c2fcae04d805564ea2d34cdbcefedcb9953a7f7d4ebc0")
