"""istio.security.Authorization: bytes to a policy of the model.

A policy that is misread opens or closes doors, so whatever is not understood refuses the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from kmesh.core import addr
from kmesh.core.model import Action, Authorization, Match, PolicyScope, StringMatch
from kmesh.wire.fields import LEN, VARINT, Field, check_unknown, fields, packed, text

if TYPE_CHECKING:
    from enum import IntEnum

Enum = TypeVar("Enum", bound="IntEnum")

_MASK = 0xFFFF_FFFF


def _enum(kind: type[Enum], what: str, value: int) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{what} {value} is unknown") from None


def _string_match(data: bytes) -> StringMatch:
    found: StringMatch | None = None
    for field in fields(data, 4):
        if field.kind != LEN:
            continue
        if 1 <= field.tag <= 3:
            found = StringMatch(("exact", "prefix", "suffix")[field.tag - 1], text(field))
        elif field.tag == 4:
            check_unknown(field.body, 5)
            found = StringMatch("presence")
    if found is None:
        raise ValueError("a string match is neither exact, prefix, suffix nor presence")
    return found


def _cidr(data: bytes) -> tuple[bytes, int]:
    raw, length = b"", 0
    for field in fields(data, 4):
        if field.tag == 1 and field.kind == LEN:
            raw = field.body
        elif field.tag == 2 and field.kind == VARINT:
            length = field.number & _MASK
    base = addr.from_wire(raw)
    if length > 8 * len(raw):
        raise ValueError(f"{addr.text(base)}/{length}: prefix is longer than the address")
    plen = 128 - 8 * len(raw) + length
    mask = ((1 << plen) - 1) << (128 - plen)
    return (int.from_bytes(base, "big") & mask).to_bytes(16, "big"), plen


def _account(data: bytes) -> tuple[str, str]:
    parts = ["", ""]
    for field in fields(data, 4):
        if field.tag in (1, 2) and field.kind == LEN:
            parts[field.tag - 1] = text(field)
    return parts[0], parts[1]


def _ports(field: Field) -> list[int]:
    ports = [number & _MASK for number in packed(field)]
    for port in ports:
        if port > 65535:
            raise ValueError(f"port {port} is greater than 65535")
    return ports


def _check_extension(data: bytes) -> None:
    """Only the form of an extension matters: name 1, config 2 with a type URL 1."""
    for field in fields(data, 4):
        if field.kind == LEN and field.tag == 1:
            text(field)
        elif field.kind == LEN and field.tag == 2:
            for inner in fields(field.body, 5):
                if inner.kind == LEN and inner.tag == 1:
                    text(inner)


def _match(data: bytes) -> Match:
    found: list[list[object]] = [[] for _ in Match._fields]
    for field in fields(data, 3):
        if field.tag in (9, 10):
            found[field.tag - 1] += _ports(field)
        elif field.kind != LEN:
            continue
        elif field.tag <= 4:
            found[field.tag - 1].append(_string_match(field.body))
        elif field.tag <= 8:
            found[field.tag - 1].append(_cidr(field.body))
        elif field.tag <= 12:
            found[field.tag - 1].append(_account(field.body))
        elif field.tag == 13:
            _check_extension(field.body)
    kinds: Any = [tuple(values) for values in found]
    return Match(*kinds)


def _clause(data: bytes) -> tuple[Match, ...]:
    return tuple(
        [_match(field.body) for field in fields(data, 2) if field.tag == 2 and field.kind == LEN]
    )


def _rule(data: bytes) -> tuple[tuple[Match, ...], ...]:
    return tuple(
        [_clause(field.body) for field in fields(data, 1) if field.tag == 1 and field.kind == LEN]
    )


def decode(data: bytes) -> Authorization:
    """The policy in an encoded Authorization; raises ValueError saying what is wrong with it."""
    names, numbers = ["", ""], {3: 0, 4: 0, 6: 0}
    rules = []
    for field in fields(data):
        if field.kind == VARINT and field.tag in numbers:
            numbers[field.tag] = field.number
        elif field.kind != LEN:
            continue
        elif field.tag <= 2:
            names[field.tag - 1] = text(field)
        elif field.tag == 5:
            rules.append(_rule(field.body))
        elif field.tag == 7:
            _check_extension(field.body)
    name, namespace = names
    return Authorization(
        key=f"{namespace}/{name}",
        namespace=namespace,
        scope=_enum(PolicyScope, "policy scope", numbers[3] & _MASK),
        action=_enum(Action, "policy action", numbers[4] & _MASK),
        rules=tuple(rules),
        dry_run=numbers[6] != 0,
    )
