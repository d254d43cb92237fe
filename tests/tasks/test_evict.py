"""When open connections are looked at: at once, after a while, never; and again when it failed.

That they end, and which, is tested on a real kernel (tests/kernel/test_authz.py).
"""

from __future__ import annotations

import anyio
import pytest
from anyio import from_thread

from kmesh.errors import BpfError
from kmesh.tasks import evict
from kmesh.tasks.ender import Ender
from kmesh.tasks.evict import AGAIN, Evictor

pytestmark = pytest.mark.anyio


class Looks:
    """An evictor with a clock of the test's own, and the pods that it looked at."""

    def __init__(self, delay: float | None) -> None:
        self.now, self.seen, self.fails = 0.0, list[int](), set[int]()
        ender = Ender(self._run, lambda _: None)
        self.evictor = Evictor(delay, ender, lambda _: False, lambda: self.now)

    def _run(self, name: str, cookie: int) -> bool:
        assert name == "km_evict"
        self.seen.append(cookie)
        if cookie in self.fails:
            raise BpfError("no such thing", 5)
        return True

    async def at(self, now: float) -> list[int]:
        """The pods that are looked at then."""
        self.now, self.seen = now, []
        for cookie in self.evictor.take_due():
            await self.evictor.look(cookie)
        return self.seen


async def test_each_pod_has_its_own_while() -> None:
    """A change of one pod does not shorten the time that another one's connections have."""
    looks = Looks(30.0)
    looks.evictor.changed({2, 1})
    looks.now = 29.0
    looks.evictor.changed({3})
    assert await looks.at(29.9) == []
    assert await looks.at(30.0) == [1, 2]
    assert await looks.at(58.9) == []
    assert await looks.at(59.0) == [3]
    assert looks.evictor.statistics().looks == 3


async def test_changes_without_end_do_not_put_it_off() -> None:
    looks = Looks(30.0)
    for second in range(30):
        looks.now = float(second)
        looks.evictor.changed({1})
    assert looks.evictor.statistics().waiting == 1
    assert await looks.at(30.0) == [1]


async def test_a_change_during_a_look_is_looked_at_again() -> None:
    looks = Looks(0.0)
    looks.evictor.changed({1})
    (cookie,) = looks.evictor.take_due()
    looks.evictor.changed({1})
    await looks.evictor.look(cookie)
    assert await looks.at(0.0) == [1]


async def test_never() -> None:
    looks = Looks(None)
    looks.evictor.changed({1})
    assert await looks.at(1e9) == []
    assert looks.evictor.statistics().waiting == 0


async def test_what_failed_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    looks = Looks(0.0)
    looks.fails = {1}
    looks.evictor.changed({1, 2})
    assert await looks.at(0.0) == [1, 2]
    assert looks.evictor.statistics().failures == 1
    assert "cannot end the connections of pod 1" in caplog.text
    looks.fails.clear()
    assert await looks.at(AGAIN - 0.1) == []
    assert await looks.at(AGAIN) == [1]
    assert await looks.at(1e9) == []


@pytest.mark.parametrize("delay", [0.0, 0.02])
async def test_the_task_looks_by_itself(delay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pod that waits for its next try keeps no other waiting."""
    monkeypatch.setattr(evict, "EVERY", 0.0)
    monkeypatch.setattr(evict, "AGAIN", 3600.0)
    send, seen = anyio.create_memory_object_stream[int](10)

    def run(_: str, cookie: int) -> bool:
        from_thread.run_sync(send.send_nowait, cookie)
        if cookie == 1:
            raise BpfError("no such thing", 5)
        return True

    evictor = Evictor(delay, Ender(run, lambda _: None), lambda _: False)
    with send, seen, anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(evictor.run)
            evictor.changed({1})
            assert await seen.receive() == 1
            await anyio.wait_all_tasks_blocked()
            evictor.changed({3, 2})
            assert [await seen.receive(), await seen.receive()] == [2, 3]
            tasks.cancel_scope.cancel()
