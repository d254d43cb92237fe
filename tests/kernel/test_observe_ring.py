"""The reader of the kernel's records: woken by the first, asleep while there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from kmesh.abi.layout import EventKind
from kmesh.tasks import ring
from kmesh.tasks.ring import RingReader, keep_reading
from tests.kernel.test_observe import FRIEND, SERVER, fetch, switch, watched
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmesh.core.records import Record
    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace

__all__ = ["watched"]
pytestmark = [pytest.mark.kernel, pytest.mark.anyio]
Ends = tuple["Namespace", "Namespace"]


async def came(found: Sequence[object], count: int) -> None:
    await eventually(lambda: len(found) >= count)


async def test_the_first_record_wakes_a_reader_that_would_sleep_for_ever(
    watched: Mesh, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring, "EVERY", 3600.0)
    _, client = ends
    switch(watched, access_log=1)
    found: list[Record] = []
    turns = 0
    reader = RingReader(watched.plane, watched.steering)
    reader.subscribe(lambda batch: found.extend(batch.records))
    turn = reader._turn

    def counted() -> ring.Turn:
        nonlocal turns
        turns += 1
        return turn()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_reading, reader._ring, counted)
        await anyio.wait_all_tasks_blocked()
        for count in (2, 4, 6):
            await anyio.to_thread.run_sync(fetch, client, FRIEND, SERVER, 8080)
            await came(found, count)
        await anyio.sleep(3 * ring.GATHER)
        assert turns <= 1 + 6, "once at first, and at most once for each record"
        tasks.cancel_scope.cancel()
    assert {each.kind for each in found} == {EventKind.CLOSE}  # type: ignore[union-attr]


def test_it_reads_sooner_where_the_ring_fills_quickly() -> None:
    pause = ring.GATHER
    for rate in (100_000, 150_000):
        for _ in range(10):
            pause = ring.gathering(pause, round(rate * pause), 7_000)
            assert pause >= ring.LEAST
        assert rate * pause < 7_000 / 4, "there is room for a loop that is held up"
    for _ in range(10):
        pause = ring.gathering(pause, 0, 7_000)
    assert pause == ring.GATHER, "few records wake nobody more often than needed"


async def test_a_reader_outlives_the_tables_that_were_replaced_by_bigger_ones(
    watched: Mesh, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring, "EVERY", 3600.0)
    _, client = ends
    switch(watched, access_log=1)
    found: list[Record] = []
    reader = RingReader(watched.plane, watched.steering)
    reader.subscribe(lambda batch: found.extend(batch.records))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        await anyio.wait_all_tasks_blocked()
        vips, slots = watched.tables.capacity()
        watched.tables.grow(2 * vips, slots)
        watched.tables.release()
        for count in (2, 4):
            await anyio.to_thread.run_sync(fetch, client, FRIEND, SERVER, 8080)
            await came(found, count)
        tasks.cancel_scope.cancel()
