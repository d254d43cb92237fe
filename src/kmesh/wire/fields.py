"""A protobuf message to its fields, as strictly as Google's parsers read them.

For the few messages that come from the wire and are too small or too rare for the C scanner: the
generated classes accept truncated input and do not merge messages given in pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

VARINT, FIXED64, LEN, GROUP, END_GROUP, FIXED32 = range(6)
_DEPTH = 100
_FIXED = {FIXED64: 8, FIXED32: 4}


class Field(NamedTuple):
    """``kind`` is VARINT or LEN; ``number`` is the value of a VARINT, ``body`` that of a LEN."""

    tag: int
    kind: int
    number: int
    body: bytes


class Malformed(ValueError):
    """The bytes are no protobuf message."""


def _varint(data: bytes, at: int, longest: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + longest]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + index + 1
    raise Malformed("the message is malformed")


def _tag(data: bytes, at: int) -> tuple[int, int, int]:
    tag, at = _varint(data, at, 5)
    if tag > 0xFFFF_FFFF:
        raise Malformed("the message is malformed")
    return tag >> 3, tag & 7, at


def _body(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _varint(data, at, 5)
    if size > len(data) - at:
        raise Malformed("the message is malformed")
    return data[at : at + size], at + size


def _skip(data: bytes, at: int, tag: int, kind: int, depth: int) -> int:
    """Where the value at ``at`` ends."""
    if kind == VARINT:
        return _varint(data, at, 10)[1]
    if kind == LEN:
        return _body(data, at)[1]
    if kind in _FIXED and at + _FIXED[kind] <= len(data):
        return at + _FIXED[kind]
    if kind != GROUP or depth >= _DEPTH:
        raise Malformed("the message is malformed")
    while True:
        inner, kind, at = _tag(data, at)
        if kind == END_GROUP and inner == tag:
            return at
        at = _skip(data, at, inner, kind, depth + 1)


def check_unknown(data: bytes, depth: int) -> None:
    """A message of which no field is known; raises Malformed.

    Field number 0 passes here and within groups, as it does in Google's parser.
    """
    at = 0
    while at < len(data):
        tag, kind, at = _tag(data, at)
        at = _skip(data, at, tag, kind, depth)


def fields(data: bytes, depth: int = 0) -> Iterator[Field]:
    """Every VARINT and LEN field in order; others are checked and left out.

    ``depth`` counts the messages around this one. Raises Malformed.
    """
    at = 0
    while at < len(data):
        tag, kind, at = _tag(data, at)
        if tag == 0:
            raise Malformed("the message is malformed")
        if kind == VARINT:
            number, at = _varint(data, at, 10)
            yield Field(tag, kind, number, b"")
        elif kind == LEN:
            body, at = _body(data, at)
            yield Field(tag, kind, 0, body)
        else:
            at = _skip(data, at, tag, kind, depth)


def gathered(data: bytes) -> tuple[dict[int, int], dict[int, list[bytes]]]:
    """As ``fields``, for a message that was read before, in a fourth of the time: by field number
    the last number (of 64 bits) and all bodies in order."""
    numbers: dict[int, int] = {}
    bodies: dict[int, list[bytes]] = {}
    at, size = 0, len(data)
    while at < size:
        tag, at = data[at], at + 1
        if tag > 127:
            tag, at = tag & 127 | data[at] << 7, at + 1
            if tag > 0x3FFF:
                tag, at = _varint(data, at - 2, 5)
        kind, tag = tag & 7, tag >> 3
        if kind != VARINT and kind != LEN:
            at = _skip(data, at, tag, kind, 0)
            continue
        number, at = data[at], at + 1
        if number > 127:
            if data[at] > 127:
                number, at = _varint(data, at - 1, 10)
            else:
                number, at = number & 127 | data[at] << 7, at + 1
        if kind == VARINT:
            numbers[tag] = number
        else:
            bodies.setdefault(tag, []).append(data[at : at + number])
            at += number
    return numbers, bodies


def text(field: Field) -> str:
    """A string field; raises Malformed when it is not UTF-8."""
    try:
        return str(field.body, "utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("a string is not valid UTF-8") from error


def packed(field: Field) -> list[int]:
    """The numbers of one occurrence of a repeated field, packed or not."""
    if field.kind == VARINT:
        return [field.number]
    numbers, at = [], 0
    while at < len(field.body):
        number, at = _varint(field.body, at, 10)
        numbers.append(number)
    return numbers
