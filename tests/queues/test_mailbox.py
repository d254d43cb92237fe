"""The mailbox: latest wins, order of first put, nothing lost, nobody woken for nothing."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.queues.mailbox import Mailbox, MailboxStatistics
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio


def test_the_latest_value_wins_at_the_first_place() -> None:
    box: Mailbox[str, int] = Mailbox()
    box.put([("a", 1), ("b", 2), ("a", 3)])
    assert len(box) == 2
    assert box.take(9) == [("a", 3), ("b", 2)]
    assert box.take(9) == []


def test_a_key_that_was_taken_starts_anew_at_the_end() -> None:
    box: Mailbox[str, int] = Mailbox()
    box.put([("a", 1), ("b", 2), ("c", 3)])
    assert box.take(1) == [("a", 1)]
    box.put([("a", 4)])
    assert box.take(2) == [("b", 2), ("c", 3)]
    assert box.take(2) == [("a", 4)]


def test_statistics_count_what_nobody_saw() -> None:
    box: Mailbox[str, int] = Mailbox()
    box.put([("a", 1), ("b", 2)])
    box.put([("a", 3)])
    box.take(1)
    box.put([("c", 4)])
    assert box.statistics() == MailboxStatistics(pending=2, most=2, put=4, replaced=1)


@given(
    st.lists(
        st.one_of(
            st.lists(st.tuples(st.integers(0, 5), st.integers()), max_size=6), st.integers(0, 4)
        ),
        max_size=20,
    )
)
def test_as_an_ordered_dictionary(script: list[list[tuple[int, int]] | int]) -> None:
    box: Mailbox[int, int] = Mailbox()
    model: dict[int, int] = {}
    put = seen = 0
    for step in script:
        if isinstance(step, int):
            expected = list(model.items())[:step]
            assert box.take(step) == expected
            seen += len(expected)
            for key, _ in expected:
                del model[key]
        else:
            box.put(step)
            model.update(step)
            put += len(step)
        assert len(box) == len(model)
        found = box.statistics()
        assert (found.put, found.pending) == (put, len(model))
        assert found.replaced == put - seen - len(model)


async def test_a_put_wakes_the_reader_once() -> None:
    box: Mailbox[str, int] = Mailbox()
    woken = []

    async def read() -> None:
        while True:
            await box.wait()
            woken.append(box.take(9))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        assert woken == []
        box.put([("a", 1)])
        box.put([("b", 2)])
        await anyio.wait_all_tasks_blocked()
        assert woken == [[("a", 1), ("b", 2)]]
        tasks.cancel_scope.cancel()


async def test_what_was_put_before_the_wait_ends_it_at_once() -> None:
    box: Mailbox[str, int] = Mailbox()
    box.put([("a", 1)])
    with anyio.fail_after(PATIENCE):
        await box.wait()
    with anyio.move_on_after(0) as scope:
        await box.wait()
    assert scope.cancelled_caught, "once per put"


async def test_a_nudge_wakes_without_a_value() -> None:
    box: Mailbox[str, int] = Mailbox()
    box.nudge()
    with anyio.fail_after(PATIENCE):
        await box.wait()
    assert box.take(1) == []
