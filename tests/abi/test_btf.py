"""The BTF reader, on the object it was made for and on what it must refuse."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import kmesh
from kmesh.abi import btf

OBJECT = Path(kmesh.__file__).parent / "bpf_c" / "sock.bpf.o"


@pytest.fixture(scope="module")
def types() -> list[btf.Type]:
    return btf.parse(btf.section(OBJECT.read_bytes(), ".BTF"))


def one(types: list[btf.Type], kind: int, name: str) -> btf.Type:
    (found,) = (t for t in types if (t.kind, t.name) == (kind, name))
    return found


def test_structures_have_sizes_and_member_offsets(types: list[btf.Type]) -> None:
    origin = one(types, btf.STRUCT, "km_origin")
    assert origin.size == 48
    assert [(m.name, m.offset) for m in origin.members] == [
        ("vip", 0), ("backend", 16), ("vip_port", 32), ("backend_port", 34), ("service", 36),
        ("workload", 40), ("zero", 44),
    ]  # fmt: skip


def test_bit_fields_have_widths(types: list[btf.Type]) -> None:
    members = {m.name: (m.offset, m.bits) for m in one(types, btf.STRUCT, "km_vip").members}
    assert members["action"] == (16, 8)
    assert members["reason"] == (17, 8)
    assert members["flags"][0] == 18


def test_enums_have_values(types: list[btf.Type]) -> None:
    values = dict(one(types, btf.ENUM, "km_action").values)
    assert values == {
        "KM_ACTION_NONE": 0, "KM_ACTION_BALANCE": 1, "KM_ACTION_REFUSE": 2, "KM_ACTION_PASS": 3,
    }  # fmt: skip


def test_arrays_have_an_element_and_a_count(types: list[btf.Type]) -> None:
    (uid,) = one(types, btf.STRUCT, "km_pod").members
    element, count = types[uid.type].extra
    assert count == 512
    assert types[element].name == "char"


def test_the_first_type_is_void(types: list[btf.Type]) -> None:
    assert types[0] == btf.Type(0, "void", 0)


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(60), bytes(64)])
def test_what_is_no_such_elf_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a 64-bit little-endian ELF file"):
        btf.section(data, ".BTF")


def test_a_missing_section_is_named() -> None:
    with pytest.raises(ValueError, match=r"no section \.nothing"):
        btf.section(OBJECT.read_bytes(), ".nothing")


def test_a_bad_magic_number_is_refused() -> None:
    header = struct.pack("<HBBIIIII", 0x9FEB, 1, 0, 24, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="not BTF"):
        btf.parse(header)


def test_kinds_that_are_not_needed_are_skipped_over() -> None:
    """Every kind there is, then a structure that would be lost if one had the wrong length."""
    strings = b"\0here\0"
    kinds = [
        (1, 0, 4, b"\0\0\0\0"),  # INT
        (2, 0, 1, b""),  # POINTER
        (3, 0, 0, struct.pack("<III", 1, 1, 7)),  # ARRAY
        (5, 1, 4, struct.pack("<III", 0, 1, 0)),  # UNION
        (6, 2, 4, struct.pack("<IiIi", 0, 1, 0, -2)),  # ENUM
        (7, 0, 0, b""), (8, 0, 1, b""), (9, 0, 1, b""), (10, 0, 1, b""), (11, 0, 1, b""),
        (12, 0, 1, b""),  # FUNC
        (13, 1, 0, struct.pack("<II", 0, 1)),  # FUNC_PROTO
        (14, 0, 1, b"\0\0\0\0"),  # VAR
        (15, 1, 4, struct.pack("<III", 1, 0, 4)),  # DATASEC
        (16, 0, 8, b""),  # FLOAT
        (17, 0, 1, b"\xff\xff\xff\xff"),  # DECL_TAG
        (18, 0, 1, b""),  # TYPE_TAG
        (19, 1, 8, struct.pack("<III", 0, 1, 0)),  # ENUM64
    ]  # fmt: skip
    body = b"".join(
        struct.pack("<III", 0, kind << 24 | count, size) + rest for kind, count, size, rest in kinds
    )
    body += struct.pack("<III", 1, btf.STRUCT << 24, 77)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings))
    found = btf.parse(header + body + strings)
    assert [t.kind for t in found[1:]] == [*(kind for kind, *_ in kinds), btf.STRUCT]
    assert (found[-1].name, found[-1].size) == ("here", 77)
    assert found[3].extra == (1, 7)
    assert found[5].values == (("", 1), ("", -2))
