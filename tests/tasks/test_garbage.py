"""When the garbage collector looks, and at what."""

from __future__ import annotations

import gc
from itertools import count

import anyio
import pytest

from kmesh.tasks import garbage
from kmesh.tasks.garbage import BUSY, IDLE, OLDER, Looks


def test_it_looks_after_work_and_after_much_of_it_further_back() -> None:
    looks = Looks()
    found = [looks.after(work) for work in range(OLDER // 4, 2 * OLDER + 1, OLDER // 4)]
    assert found == 2 * [0, 0, 0, 1]
    assert looks.wait == BUSY


def test_it_looks_ever_less_often_while_nothing_is_done() -> None:
    looks = Looks()
    assert looks.after(7) == 0
    assert [looks.after(7) for _ in range(10)] == [None] * 10
    assert looks.wait == IDLE
    assert looks.after(8) == 0
    assert looks.wait == BUSY


class Enough(Exception):
    """The test has seen what it wanted."""


def test_nothing_is_collected_before_the_mesh_is_there_and_its_rows_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[object] = []

    def collect(generation: int) -> None:
        told.append(generation)
        if len(told) == 6:
            raise Enough

    monkeypatch.setattr(garbage, "BUSY", 0.0)
    for name in ("disable", "freeze", "enable"):
        monkeypatch.setattr(gc, name, lambda name=name: told.append(name))
    monkeypatch.setattr(gc, "collect", collect)

    async def run() -> None:
        synced, work = anyio.Event(), count(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(garbage.run, synced, lambda: next(work))
            await anyio.wait_all_tasks_blocked()
            assert told == ["disable"]
            synced.set()

    with pytest.raises(ExceptionGroup) as raised:
        anyio.run(run)
    assert raised.group_contains(Enough)
    assert told == ["disable", "freeze", "enable", 0, 0, 0]
