"""Shapes of maps, read from the objects of this build."""

from __future__ import annotations

from pathlib import Path

import pytest

import kmesh
from kmesh.abi import btf, shapes
from kmesh.abi.shapes import Leaf, Types

FOLDER = Path(kmesh.__file__).parent / "bpf_c"


@pytest.fixture(scope="module")
def types() -> Types:
    return shapes.read(btf.section((FOLDER / "authz.bpf.o").read_bytes(), ".BTF"))


def test_a_map_is_its_type_its_flags_and_what_its_rows_are(types: Types) -> None:
    guard = types.definitions()["km_guard"]
    assert (guard.type, guard.flags, guard.entries) == (1, 0, 1)
    assert guard.key is not None
    assert guard.key.fields == {"addr.word": Leaf(0, 16, 4)}
    assert guard.value is not None
    assert guard.value.size == 48
    assert guard.value.fields["set"] == Leaf(4, 4, 4)
    assert guard.value.fields["mode"][:3] == (8, 1, 1)
    assert (2, "KM_MODE_EVALUATE") in guard.value.fields["mode"].names


def test_structures_inside_are_taken_apart(types: Types) -> None:
    prefix = types.definitions()["km_prefix"]
    assert prefix.value is not None
    assert list(prefix.value.fields) == [
        "covers.base.word",
        "covers.plen",
        "set",
        "dimension",
        "row",
    ]
    assert prefix.flags == 1, "BPF_F_NO_PREALLOC"


def test_a_number_alone_is_a_field_without_a_name(types: Types) -> None:
    verdict = types.definitions()["km_verdict"]
    assert verdict.value is not None
    assert verdict.value.fields == {"": Leaf(0, 8, 8)}


def test_a_ring_has_neither_key_nor_value(types: Types) -> None:
    ring = types.definitions()["km_events"]
    assert (ring.key, ring.value, ring.entries) == (None, None, 4096)


def test_what_no_map_of_ours_has_is_refused() -> None:
    union = btf.Type(btf.UNION, "either", 4)
    with pytest.raises(ValueError, match="kind 5"):
        Types([btf.Type(0, "void", 0), union]).shape(1)
