"""What a new stream claims to hold: entries of a request's map of name to version."""

from __future__ import annotations

# Field 5 of the request; fields 1 and 2 of its entries.
_ENTRY, _NAME, _VERSION = b"\x2a", b"\x0a", b"\x12"
_SHORT = [chr(size) for size in range(128)]
_LONGEST = 127 - 4  # of name and version together: every length is one byte


def claim_entry(name: str, version: str) -> bytes:
    """One entry of ``initial_resource_versions``. Nearly all are short ASCII texts."""
    sizes = len(name), len(version)
    if sizes[0] + sizes[1] <= _LONGEST and name.isascii() and version.isascii():
        whole, first, second = _SHORT[sizes[0] + sizes[1] + 4], _SHORT[sizes[0]], _SHORT[sizes[1]]
        return f"*{whole}\n{first}{name}\x12{second}{version}".encode()
    body = _text(_NAME, name.encode()) + _text(_VERSION, version.encode())
    return _text(_ENTRY, body)


def _text(tag: bytes, value: bytes) -> bytes:
    size, length = len(value), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return tag + bytes(length) + value
