"""Loop lag: a loop that is held up is noticed; no assertion on how long anything took."""

from __future__ import annotations

import time

import anyio
import pytest

from kmesh.tasks.lag import INTERVAL, LONG, Lag, LagStatistics

pytestmark = pytest.mark.anyio


async def test_a_stall_is_counted_and_attributed() -> None:
    lag = Lag()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lag.run)
        await anyio.wait_all_tasks_blocked()
        before = lag.statistics()
        until = time.thread_time() + INTERVAL + 5 * LONG
        while time.thread_time() < until:
            pass
        with anyio.fail_after(20):
            while lag.statistics().over_10ms == before.over_10ms:  # noqa: ASYNC110 no event tells
                await anyio.sleep(INTERVAL)
        tasks.cancel_scope.cancel()
    found = lag.statistics()
    # At least the part of the busy time after the timer was due.
    assert found.longest >= 4 * LONG
    assert found.longest_cpu >= 4 * LONG


def test_asking_starts_a_new_recent() -> None:
    lag = Lag()
    lag._note(0.5, 0.125)
    lag._note(0.25, 0.25)
    assert lag.statistics() == LagStatistics(0.5, 0.5, 2, 0.25, 0.25)
    lag._note(0.001, 0.001)
    assert lag.statistics() == LagStatistics(0.5, 0.001, 2, 0.25, 0.001)
    assert lag.statistics() == LagStatistics(0.5, 0.0, 2, 0.25, 0.0)


def test_what_was_computed_is_no_more_than_what_was_late() -> None:
    """CPU time spent before the timer was due held nobody up."""
    lag = Lag()
    lag._note(0.001, 0.008)
    assert lag.statistics() == LagStatistics(0.001, 0.001, 0, 0.001, 0.001)
