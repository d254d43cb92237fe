"""Ids: stable, never handed out twice, taken over from the maps."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.core.ids import Ids


def test_ids_are_dense_from_one_and_stable() -> None:
    ids = Ids()
    assert [ids.get(name) for name in "abcab"] == [1, 2, 3, 1, 2]
    assert ids.name(2) == "b"
    assert ids.name(9) is None
    assert len(ids) == 3


def test_a_dropped_id_is_not_handed_out_again() -> None:
    ids = Ids()
    ids.get("a")
    ids.drop("a")
    ids.drop("never seen")
    assert ids.get("b") == 2
    assert ids.get("a") == 3


def test_after_a_restart_ids_are_bound_and_others_are_above_what_lies_in_the_maps() -> None:
    ids = Ids()
    ids.reserve(7)
    ids.reserve(3)
    assert ids.bind("a", 3)
    assert ids.get("a") == 3
    assert ids.get("b") == 8


def test_what_is_bound_stays_bound() -> None:
    ids = Ids()
    ids.reserve(5)
    assert ids.bind("a", 3)
    assert not ids.bind("a", 4), "the name has an id"
    assert not ids.bind("b", 3), "the id has a name"
    assert not ids.bind("c", 0), "0 is nobody"
    assert not ids.bind("c", 6), "nothing was reserved there"
    assert (ids.get("a"), ids.name(4), len(ids)) == (3, None, 1)


def test_what_was_handed_out_cannot_be_bound() -> None:
    ids = Ids()
    ids.reserve(2)
    assert ids.get("a") == 3
    assert not ids.bind("b", 3)
    assert ids.bind("b", 2)


def test_the_counter_goes_round_without_touching_what_is_in_use() -> None:
    ids = Ids()
    ids.reserve(0xFFFFFFFE)
    ids.bind("low", 1)
    assert ids.get("last") == 0xFFFFFFFF
    assert ids.get("next") == 2
    assert ids.get("after") == 3
    assert not ids.bind("late", 3)
    assert ids.name(1) == "low"


steps = st.lists(
    st.one_of(
        st.tuples(st.just("get"), st.sampled_from("abcde"), st.just(0)),
        st.tuples(st.just("drop"), st.sampled_from("abcde"), st.just(0)),
        st.tuples(st.just("bind"), st.sampled_from("abcde"), st.integers(0, 12)),
    ),
    max_size=30,
)


@settings(max_examples=300)
@given(st.lists(st.integers(0, 12), max_size=4), steps)
def test_names_and_ids_are_always_one_to_one(
    found: list[int], script: list[tuple[str, str, int]]
) -> None:
    ids, bound, given_out = Ids(), dict[str, int](), set[int]()
    for number in found:
        ids.reserve(number)
    reserved = max(found, default=0)
    for what, name, number in script:
        match what:
            case "get":
                known = name in bound
                id_ = ids.get(name)
                assert id_ == bound.setdefault(name, id_)
                if not known:
                    assert id_ not in given_out, "handed out twice"
                    assert id_ > reserved
                    given_out.add(id_)
            case "drop":
                ids.drop(name)
                bound.pop(name, None)
            case _:
                free = name not in bound and number not in bound.values()
                assert ids.bind(name, number) == (free and 0 < number <= reserved)
                if free and 0 < number <= reserved:
                    bound[name] = number
        assert len(set(bound.values())) == len(bound) == len(ids)
        assert all(ids.name(id_) == name for name, id_ in bound.items())
