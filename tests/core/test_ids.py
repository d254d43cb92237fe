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
    assert ids.bind("a", 3)
    assert not ids.bind("a", 4), "the name has an id"
    assert not ids.bind("b", 3), "the id has a name"
    assert not ids.bind("c", 0), "0 is nobody"
    assert (ids.get("a"), ids.name(4), len(ids)) == (3, None, 1)


def test_a_bound_id_is_skipped_by_the_counter() -> None:
    ids = Ids()
    ids.bind("a", 1)
    ids.bind("b", 2)
    assert ids.get("c") == 3


def test_the_counter_goes_round_without_touching_what_is_in_use() -> None:
    ids = Ids()
    ids.get("first")
    ids.reserve(0xFFFFFFFF)
    assert ids.get("second") == 2
    again = Ids()
    again.bind("x", 0xFFFFFFFF)
    again.reserve(0xFFFFFFFE)
    assert again.get("y") == 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("get"), st.sampled_from("abcde"), st.just(0)),
        st.tuples(st.just("drop"), st.sampled_from("abcde"), st.just(0)),
        st.tuples(st.just("bind"), st.sampled_from("abcde"), st.integers(0, 12)),
        st.tuples(st.just("reserve"), st.just(""), st.integers(0, 12)),
    ),
    max_size=30,
)


@settings(max_examples=300)
@given(steps)
def test_names_and_ids_are_always_one_to_one(script: list[tuple[str, str, int]]) -> None:
    ids, bound, given_out = Ids(), dict[str, int](), set[int]()
    highest = 0
    for what, name, number in script:
        match what:
            case "get":
                new = name not in bound
                found = ids.get(name)
                assert found == bound.setdefault(name, found)
                if new:
                    assert found not in given_out, "handed out twice"
                    assert found > highest
                    given_out.add(found)
            case "drop":
                ids.drop(name)
                bound.pop(name, None)
            case "bind":
                free = name not in bound and number not in bound.values() and number > 0
                assert ids.bind(name, number) == free
                if free:
                    bound[name] = number
            case _:
                ids.reserve(number)
                highest = max(highest, number)
        assert len(set(bound.values())) == len(bound) == len(ids)
        assert all(ids.name(id_) == name for name, id_ in bound.items())
