"""The slot array's allocator against a map of every slot."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from kmesh.core.segments import Full, Segments, order

Block = tuple[int, int] | MultipleResults[tuple[int, int]]

REST = 2.0
MOST = 256


@pytest.mark.parametrize(
    ("count", "expected"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4)]
)
def test_the_order_is_the_power_of_two_that_holds_the_slots(count: int, expected: int) -> None:
    assert order(count) == expected


def test_capacity_is_rounded_down_and_used_to_the_last_slot() -> None:
    segments = Segments(15, REST)
    assert segments.capacity == 8
    assert sorted(segments.take(1) for _ in range(8)) == list(range(8))
    with pytest.raises(Full, match="km_slot is full"):
        segments.take(1)


def test_a_block_rests_before_it_is_handed_out_again() -> None:
    segments = Segments(16, REST)
    base = segments.take(4)
    segments.release(base, 4, now=10.0)
    segments.wake(10.0 + REST - 0.001)
    assert segments.statistics() == (16, 4, 4)
    assert base not in {segments.take(4) for _ in range(3)}
    with pytest.raises(Full):
        segments.take(1)
    segments.wake(10.0 + REST)
    assert segments.statistics() == (16, 12, 0)
    assert segments.take(4) == base


def test_full_says_how_much_is_needed() -> None:
    segments = Segments(4, REST)
    segments.take(1)
    with pytest.raises(Full) as caught:
        segments.take(9)
    assert caught.value.table == "km_slot"
    segments.grow(caught.value.need)
    assert segments.take(9) % 16 == 0


def test_growing_while_nothing_is_used_leaves_one_block() -> None:
    segments = Segments(4, REST)
    segments.grow(64)
    assert segments.capacity == 64
    assert segments.take(64) == 0


def test_growing_to_less_changes_nothing() -> None:
    segments = Segments(8, REST)
    segments.grow(8)
    segments.grow(15)
    segments.grow(1)
    assert segments.capacity == 8


class Machine(RuleBasedStateMachine):
    """Blocks in use and at rest as sets of slots."""

    taken: Bundle[tuple[int, int]] = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.segments = Segments(16, REST)
        self.now = 0.0
        self.used: dict[int, int] = {}
        self.resting: list[tuple[float, int, int]] = []

    def occupied(self) -> set[int]:
        blocks = [*self.used.items(), *((base, count) for _, base, count in self.resting)]
        return {slot for base, count in blocks for slot in range(base, base + (1 << order(count)))}

    def fits(self, count: int) -> bool:
        size, occupied = 1 << order(count), self.occupied()
        starts = range(0, self.segments.capacity - size + 1, size)
        return any(occupied.isdisjoint(range(start, start + size)) for start in starts)

    @rule(target=taken, count=st.integers(1, 40))
    def take(self, count: int) -> Block:
        before, free, fits = self.segments.statistics(), self.occupied(), self.fits(count)
        try:
            base = self.segments.take(count)
        except Full as full:
            assert not fits, "refused although there is room"
            assert full.need > self.segments.capacity
            assert self.segments.statistics() == before
            return multiple()
        assert fits
        size = 1 << order(count)
        assert base % size == 0, "not aligned"
        assert 0 <= base <= self.segments.capacity - size
        assert free.isdisjoint(range(base, base + size)), "in use or resting"
        self.used[base] = count
        return base, count

    @rule(block=consumes(taken))
    def release(self, block: tuple[int, int]) -> None:
        base, count = block
        del self.used[base]
        self.segments.release(base, count, self.now)
        self.resting.append((self.now + REST, base, count))

    @rule(passed=st.sampled_from((0.0, 0.5, 1.0, 3.0)))
    def wake(self, passed: float) -> None:
        self.now += passed
        self.segments.wake(self.now)
        while self.resting:
            short = len(self.occupied()) * 8 > self.segments.capacity * 7
            if self.resting[0][0] > self.now + (0.9 * REST if short else 0.0):
                break
            self.resting.pop(0)

    @rule(target=taken, base=st.integers(0, MOST), count=st.integers(1, 20))
    def reserve(self, base: int, count: int) -> Block:
        size = 1 << order(count)
        wanted = base % size == 0 and base + size <= self.segments.capacity
        wanted = wanted and self.occupied().isdisjoint(range(base, base + size))
        assert self.segments.reserve(base, count) == wanted
        if not wanted:
            return multiple()
        self.used[base] = count
        return base, count

    @precondition(lambda self: self.segments.capacity < MOST)
    @rule(factor=st.sampled_from((1, 2, 4)))
    def grow(self, factor: int) -> None:
        wanted = self.segments.capacity * factor
        self.segments.grow(wanted)
        assert self.segments.capacity == wanted

    @invariant()
    def counts(self) -> None:
        resting = sum(1 << order(count) for _, _, count in self.resting)
        used = sum(1 << order(count) for count in self.used.values())
        capacity = self.segments.capacity
        assert self.segments.statistics() == (capacity, used + resting, resting)
        assert len(self.occupied()) == used + resting, "blocks overlap"

    def teardown(self) -> None:
        for base, count in self.used.items():
            self.segments.release(base, count, self.now)
        self.segments.wake(self.now + REST)
        assert self.segments.statistics() == (self.segments.capacity, 0, 0)
        assert self.segments.take(self.segments.capacity) == 0, "everything is one block again"


TestSegments = Machine.TestCase
TestSegments.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_where_little_is_free_blocks_rest_a_tenth_of_the_time() -> None:
    segments = Segments(64, rest=1.0)
    bases = [segments.take(8) for _ in range(8)]
    for base in bases[:3]:
        segments.release(base, 8, now=10.0)
    segments.wake(10.05)
    assert segments.statistics() == (64, 64, 24)
    segments.wake(10.2)
    assert segments.statistics() == (64, 56, 16), "no more than is short"
    segments.wake(11.0)
    assert segments.statistics() == (64, 40, 0)
