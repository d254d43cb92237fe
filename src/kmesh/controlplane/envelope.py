"""The delta envelope by hand: requests in, responses out, resource bytes untouched.

Message classes need about 90 µs a resource; a control plane that serves 100,000 of them to a
benchmark would then measure itself. Tested against the generated classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Incoming(NamedTuple):
    """What the server reads of a DeltaDiscoveryRequest; ``node`` is None when absent.

    ``error`` is None for an ACK, else the message of ``error_detail`` (perhaps empty).
    """

    type_url: str = ""
    node: str | None = None
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    versions: Mapping[str, str] = {}
    nonce: str = ""
    error: str | None = None


class Item(NamedTuple):
    """One resource of a response: the message bytes go out as they are."""

    name: str
    version: str
    raw: bytes


def varint(number: int) -> bytes:
    """Base-128 form of a number that is not negative."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _member_of_list(field: int, data: bytes) -> bytes:
    return bytes((field << 3 | 2,)) + varint(len(data)) + data


def _bytes(field: int, data: bytes) -> bytes:
    return _member_of_list(field, data) if data else b""


def response(
    type_url: str, nonce: str, items: Iterable[Item], removed: Iterable[str], system: str = ""
) -> bytes:
    """An encoded DeltaDiscoveryResponse."""
    url = _bytes(1, type_url.encode())
    parts = [_bytes(1, system.encode())]
    for item in items:
        value = url + _bytes(2, item.raw)
        resource = b"".join(
            (_bytes(1, item.version.encode()), _bytes(2, value), _bytes(3, item.name.encode()))
        )
        parts.append(_member_of_list(2, resource))
    parts += [_bytes(4, type_url.encode()), _bytes(5, nonce.encode())]
    parts += [_member_of_list(6, name.encode()) for name in removed]
    return b"".join(parts)


def request(data: bytes) -> Incoming:
    """Decode a DeltaDiscoveryRequest; raises ValueError for bytes that are none."""
    incoming = Incoming()
    subscribe, unsubscribe = [], []
    versions: dict[str, str] = {}
    for number, value in fields(data):
        if number == 1:
            incoming = incoming._replace(node=_member(value, 1))
        elif number == 2:
            incoming = incoming._replace(type_url=value.decode())
        elif number == 3:
            subscribe.append(value.decode())
        elif number == 4:
            unsubscribe.append(value.decode())
        elif number == 5:
            versions[_member(value, 1)] = _member(value, 2)
        elif number == 6:
            incoming = incoming._replace(nonce=value.decode())
        elif number == 7:
            incoming = incoming._replace(error=_member(value, 2))
    return incoming._replace(
        subscribe=tuple(subscribe), unsubscribe=tuple(unsubscribe), versions=versions
    )


def _member(data: bytes, number: int) -> str:
    text = ""
    for field, value in fields(data):
        if field == number:
            text = value.decode()
    return text


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of every length-delimited field; others are skipped."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError(f"field {key >> 3} is cut off")
            yield key >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError(f"field {key >> 3} has wire type {kind}")
    if at != end:
        raise ValueError("the last field is cut off")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for at in range(at, min(at + 10, len(data))):  # noqa: B020
        value |= (data[at] & 127) << shift
        if data[at] < 128:
            return value, at + 1
        shift += 7
    raise ValueError("a number is cut off or too long")
