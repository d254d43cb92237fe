"""Rows of the kernel's tables in words: which address, service, pod or policy a key is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.layout import CidrKey, MatchKey, PrefixKey, Verdict, VerdictKey, VipKey
from kmesh.core import addr
from kmesh.core.commands import (
    CIDR,
    CONFIG,
    ENROL,
    EXEMPT,
    GUARD,
    LINK,
    MATCH,
    NAME,
    OWN,
    PEER,
    POD,
    PREFIX,
    ROW,
    SLOT,
    VERDICT,
    VIP,
)
from kmesh.core.route_shape import prefix

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.core.steer import Steering

CLIPPED = 64  # characters of a key that nobody can read


def describe(steering: Steering, table: str, key: bytes) -> str:
    """What a row is about; the key as hexadecimal digits for a table without words."""
    words = _WORDS.get(table)
    return words(steering, key) if words else key.hex()[:CLIPPED]


def _record(steering: Steering, raw: bytes) -> str:
    key = VipKey.unpack(raw)
    frontend = (key.addr, key.plen)
    where = f"{prefix(frontend)} port {key.port}" if key.port else f"{prefix(frontend)} other ports"
    services = steering.store.claimants.get(frontend, ())
    owner = f" of {', '.join(services)}" if services else ""
    return f"{where}{owner}{f', view {key.view}' if key.view else ''}"


def _pod(steering: Steering, raw: bytes) -> str:
    cookie = int.from_bytes(raw, "little")
    uid = steering.pods.wanted.get(cookie, "nobody's")
    return f"{uid} (namespace {cookie})"


def _address(steering: Steering, raw: bytes) -> str:
    owner = steering.store.claims.owner(steering.store.home.network, raw)
    return f"{addr.text(raw)} of {owner}" if owner else addr.text(raw)


def _range(_: Steering, raw: bytes) -> str:
    key = CidrKey.unpack(raw)
    return prefix((key.addr, key.plen))


def _policy(steering: Steering, raw: bytes) -> str:
    id_ = int.from_bytes(raw, "little")
    return steering.guards.names.name(id_) or f"name {id_}"


def _verdict(steering: Steering, raw: bytes) -> str:
    key = VerdictKey.unpack(raw)
    known = steering.guards.names.name(key.policy) or f"policy {key.policy}"
    policy = known if key.policy else "no policy"
    return f"{policy}: {Verdict(key.verdict).name.lower()}"


def _prefix(_: Steering, raw: bytes) -> str:
    key = PrefixKey.unpack(raw)
    return f"set {key.set}: {prefix((key.addr, key.plen - 64))}"


def _match(_: Steering, raw: bytes) -> str:
    key = MatchKey.unpack(raw)
    return f"set {key.set}: value {key.value}"


def _number(_: Steering, raw: bytes) -> str:
    return f"from {int.from_bytes(raw, 'little')}"


_WORDS: dict[str, Callable[[Steering, bytes], str]] = {
    VIP: _record, SLOT: _number, ROW: _number, CIDR: _range, EXEMPT: _range, CONFIG: lambda *_: "",
    ENROL: _pod, POD: _pod, OWN: _pod, LINK: _pod, GUARD: _address, PEER: _address,
    NAME: _policy, VERDICT: _verdict, PREFIX: _prefix, MATCH: _match,
}  # fmt: skip
