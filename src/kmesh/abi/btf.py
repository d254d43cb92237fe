"""Reads structures and enums from the BTF section of an object file (kernel: btf.rst).

Only what layouts are made of: names, sizes, member offsets, element types, sections of variables.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

INT, POINTER, ARRAY, STRUCT, UNION, ENUM = 1, 2, 3, 4, 5, 6
TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, VAR, DATASEC = 8, 9, 10, 11, 12, 14, 15
FUNC_PROTO, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = 13, 16, 17, 18, 19
TRAILING = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, DATASEC: 12, ENUM64: 12}
FIXED = {INT: 4, ARRAY: 12, VAR: 4, DECL_TAG: 4}


class Member(NamedTuple):
    """A field: byte offset, type id, and bits when it is a bit-field (else 0)."""

    name: str
    offset: int
    type: int
    bits: int = 0


class Type(NamedTuple):
    """One BTF type; ``extra`` is (element type, count) of an array."""

    kind: int
    name: str
    size: int
    members: tuple[Member, ...] = ()
    values: tuple[tuple[str, int], ...] = ()
    extra: tuple[int, int] = (0, 0)


def section(elf: bytes, wanted: str) -> bytes:
    """Bytes of a section of a 64-bit little-endian ELF file; raises ValueError if absent."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    (start,) = struct.unpack_from("<Q", elf, 40)
    entry, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<II16xQQ", elf, start + i * entry) for i in range(count)]
    table = headers[names][2]
    for name, _, offset, size in headers:
        end = elf.index(b"\0", table + name)
        if elf[table + name : end].decode() == wanted:
            return elf[offset : offset + size]
    raise ValueError(f"no section {wanted}")


def parse(btf: bytes) -> list[Type]:
    """Types in id order (id 0 is void); raises ValueError on a bad magic number."""
    magic, _, _, header, types, length, strings, _ = struct.unpack_from("<HBBIIIII", btf)
    if magic != 0xEB9F:
        raise ValueError("not BTF")
    found = [Type(0, "void", 0)]
    at, end = header + types, header + types + length
    while at < end:
        name, info, size = struct.unpack_from("<III", btf, at)
        at += 12
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        rest = FIXED.get(kind, 0) + TRAILING.get(kind, 0) * count
        text = _Text(btf, header + strings)
        found.append(_one(text, btf[at : at + rest], info, text.at(name), size))
        at += rest
    return found


class _Text(NamedTuple):
    btf: bytes
    start: int

    def at(self, offset: int) -> str:
        first = self.start + offset
        return self.btf[first : self.btf.index(b"\0", first)].decode()


def _one(text: _Text, data: bytes, info: int, name: str, size: int) -> Type:
    kind = info >> 24 & 0x1F
    if kind in (STRUCT, UNION):
        rows = struct.iter_unpack("<III", data)
        if info >> 31:
            members = tuple(Member(text.at(n), (o & 0xFFFFFF) // 8, t, o >> 24) for n, t, o in rows)
        else:
            members = tuple(Member(text.at(n), o // 8, t) for n, t, o in rows)
        return Type(kind, name, size, members)
    if kind == DATASEC:
        rows = struct.iter_unpack("<III", data)
        return Type(kind, name, size, tuple(Member("", offset, type_) for type_, offset, _ in rows))
    if kind == ENUM:
        values = tuple((text.at(n), value) for n, value in struct.iter_unpack("<Ii", data))
        return Type(kind, name, size, values=values)
    if kind == ARRAY:
        element, _, length = struct.unpack("<III", data)
        return Type(kind, name, size, extra=(element, length))
    return Type(kind, name, size)
