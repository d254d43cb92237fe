"""Rows of one layout become rows of another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.abi.check import seal_last
from kmesh.abi.migrate import Unlike, conversion, rows, same
from kmesh.abi.shapes import Leaf, Shape

NAMES = ("a", "b", "c", "d", "e")
WORDS = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFFFFFF, 8: 0xFFFFFFFFFFFFFFFF}
KEY = Shape(4, {"": Leaf(0, 4, 4)})


def shape(**sizes: int) -> Shape:
    """Fields of these sizes, one behind the other."""
    fields, at = {}, 0
    for name, size in sizes.items():
        fields[name] = Leaf(at, size, size)
        at += size
    return Shape(at, fields)


def pack(layout: Shape, values: dict[str, int]) -> bytes:
    """A row; what is not given is zero."""
    raw = bytearray(layout.size)
    for name, leaf in layout.fields.items():
        raw[leaf.offset : leaf.offset + leaf.size] = values.get(name, 0).to_bytes(
            leaf.size, "little"
        )
    return bytes(raw)


layouts = st.permutations(NAMES).flatmap(
    lambda names: st.tuples(*[st.sampled_from([1, 2, 4, 8])] * len(names)).map(
        lambda sizes: shape(**dict(zip(names, sizes, strict=True)))
    )
)
contents = st.lists(st.fixed_dictionaries({name: st.integers(0, 0xFF) for name in NAMES}))


@given(layouts, layouts, contents)
def test_every_field_keeps_its_value_wherever_it_goes(
    old: Shape, new: Shape, values: list[dict[str, int]]
) -> None:
    block = b"".join(pack(old, each) for each in values)
    assert conversion(old, new)(block) == b"".join(pack(new, each) for each in values)


@given(layouts, st.sets(st.sampled_from(NAMES), min_size=1), contents)
def test_fields_come_as_zero_and_go_without_a_trace(
    full: Shape, some: set[str], values: list[dict[str, int]]
) -> None:
    less = shape(**{name: full.fields[name].size for name in full.fields if name in some})
    long = b"".join(pack(full, each) for each in values)
    short = b"".join(pack(less, each) for each in values)
    assert conversion(full, less)(long) == short
    known = [{name: value for name, value in each.items() if name in some} for each in values]
    assert conversion(less, full)(short) == b"".join(pack(full, each) for each in known)


def test_fields_that_go_while_others_come_may_be_the_same_ones() -> None:
    with pytest.raises(Unlike, match="base went and first came"):
        conversion(shape(base=4, port=2), shape(first=4, port=2))
    padded = conversion(shape(base=4, zero=4), shape(base=4, extra=4))
    assert padded(bytes([1, 0, 0, 0, 9, 9, 9, 9])) == bytes([1, 0, 0, 0, 0, 0, 0, 0])


def test_what_does_not_fit_is_refused_and_named() -> None:
    narrower = conversion(shape(port=4), shape(port=2))
    assert narrower(pack(shape(port=4), {"port": 0xFFFF})) == b"\xff\xff"
    with pytest.raises(Unlike, match="port is too large"):
        narrower(pack(shape(port=4), {"port": 0x10000}))


def enum(*names: tuple[int, str]) -> Shape:
    return Shape(4, {"action": Leaf(0, 1, 1, names), "rest": Leaf(1, 3, 1)})


def test_enumerations_go_by_name() -> None:
    old = enum((0, "NONE"), (1, "PASS"), (2, "REFUSE"))
    new = enum((0, "NONE"), (2, "PASS"))
    change = conversion(old, new)
    assert change(bytes([1, 7, 7, 7, 0, 8, 8, 8])) == bytes([2, 7, 7, 7, 0, 8, 8, 8])
    with pytest.raises(Unlike, match="value 2 of an enumeration is not known"):
        change(bytes([2, 0, 0, 0]))


def test_more_names_are_no_other_layout_but_fewer_are() -> None:
    few, many = enum((0, "NONE")), enum((0, "NONE"), (1, "PASS"))
    assert same(few, many)
    assert not same(many, few)
    assert not same(shape(a=4, b=4), shape(b=4, a=4))
    assert not same(shape(a=4), shape(a=8))


def test_arrays_are_cut_and_filled_but_their_elements_stay() -> None:
    short, long = Shape(4, {"uid": Leaf(0, 4, 1)}), Shape(8, {"uid": Leaf(0, 8, 1)})
    assert conversion(short, long)(b"abcd") == b"abcd\0\0\0\0"
    assert conversion(long, short)(b"abc\0\0\0\0\0") == b"abc\0"
    with pytest.raises(Unlike, match="uid is too large"):
        conversion(long, short)(b"abcde\0\0\0")
    with pytest.raises(Unlike, match="another size"):
        conversion(short, Shape(8, {"uid": Leaf(0, 8, 2)}))


def test_rows_of_each_cpu_lie_at_multiples_of_eight() -> None:
    change = conversion(shape(a=4), shape(b=8, a=4)._replace(fields={"a": Leaf(8, 4, 4)}), 8)
    block = bytes([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])
    made = change(block)
    assert len(made) == 32
    assert (made[8], made[24]) == (1, 2)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_check_words_are_made_anew_and_what_nobody_believed_stays_so(number: int, a: int) -> None:
    old = (KEY, shape(a=4, check=4))
    new = (KEY, shape(extra=4, a=4, check=4))
    change = rows(old, new)
    key = number.to_bytes(4, "little")
    good = seal_last(key, pack(old[1], {"a": a}))
    bad = good[:-1] + bytes([good[-1] ^ 1])
    (made_key, made), (_, spoilt) = change([(key, good), (key, bad)])
    assert made_key == key
    assert made == seal_last(key, pack(new[1], {"a": a}))
    assert spoilt[:-4] == made[:-4]
    assert seal_last(key, spoilt) != spoilt
