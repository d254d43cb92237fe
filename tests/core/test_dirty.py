"""Which frontends are planned next: exact addresses, then ranges from the longest prefix on."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kmesh.core.dirty import EXACT, Dirty

FRONTENDS = st.sets(
    st.tuples(st.integers(0, 2**32 - 1).map(lambda n: n.to_bytes(16)), st.integers(96, EXACT)),
    max_size=60,
)


@given(FRONTENDS, st.integers(1, 7))
def test_puts_come_down_and_drops_go_up(frontends: set[tuple[bytes, int]], most: int) -> None:
    dirty = Dirty()
    dirty.add(frontends)
    assert len(dirty) == len(frontends)
    puts: list[tuple[bytes, int]] = []
    dropped: list[tuple[bytes, int]] = []
    while len(dirty):
        these, drops = dirty.next(most)
        assert 0 < len(these) <= most
        for one in these:
            assert one in dirty
            (dropped if drops else puts).append(one)
            dirty.planned(one, drops)
    ranges = {one for one in frontends if one[1] < EXACT}
    if not ranges:
        assert (puts, set(dropped)) == ([], frontends)
        return
    assert set(puts) == set(dropped) == frontends
    exact = len(frontends) - len(ranges)
    assert all(one[1] == EXACT for one in puts[:exact])
    assert [one[1] for one in puts[exact:]] == sorted((one[1] for one in ranges), reverse=True)


class Watched(tuple[bytes, int]):
    """Counts how often its length is asked for."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        Watched.looks += 1
        return super().__getitem__(index)


def test_a_slice_does_not_look_at_every_range() -> None:
    Watched.looks = 0
    dirty, count = Dirty(), 2000
    dirty.add(Watched((index.to_bytes(16), 96 + index % 30)) for index in range(count))
    while len(dirty):
        for one in (found := dirty.next(16))[0]:
            dirty.planned(one, found[1])
    assert Watched.looks < 20 * count


@given(st.lists(st.tuples(FRONTENDS, st.integers(0, 9)), max_size=6))
def test_a_batch_is_past_when_all_that_was_dirty_by_then_was_planned(
    steps: list[tuple[set[tuple[bytes, int]], int]],
) -> None:
    dirty, left = Dirty(), dict[int, set[tuple[bytes, int]]]()
    for frontends, turns in steps:
        dirty.add(frontends)
        left[dirty.batch] = {one for one in frontends if one[1] == EXACT}
        for _ in range(turns):
            these, drops = dirty.next(2)
            for one in these:
                dirty.planned(one, drops)
                for each in left.values():
                    each.discard(one)
        first_pass = set[tuple[bytes, int]]().union(*left.values())
        others = {one for frontends, _ in steps for one in frontends} - first_pass
        waits = any(one in dirty for one in others)  # ranges, and drops after them
        for batch in left:
            whole = not any(left[each] for each in left if each <= batch)
            assert dirty.past(batch) == (whole and not waits)
