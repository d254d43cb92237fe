"""Edge tasks come back; cancellation is not a crash."""

from __future__ import annotations

import anyio
import pytest

from kmesh.tasks import supervisor as module
from kmesh.tasks.supervisor import Supervisor

pytestmark = pytest.mark.anyio


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have waited each time."""
    asked: list[float] = []
    checkpoint = anyio.lowlevel.checkpoint

    async def sleep(seconds: float) -> None:
        asked.append(seconds)
        await checkpoint()

    monkeypatch.setattr("kmesh.tasks.supervisor.anyio.sleep", sleep)
    return asked


async def test_a_crash_is_logged_counted_and_followed_by_a_new_start(
    waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    starts = 0
    supervisor = Supervisor()
    async with anyio.create_task_group() as tasks:

        async def crash() -> None:
            nonlocal starts
            starts += 1
            if starts == 4:
                tasks.cancel_scope.cancel()
                await anyio.lowlevel.checkpoint()
            if starts == 2:
                return
            raise RuntimeError(f"broken {starts}")

        tasks.start_soon(supervisor.keep, "edge", crash)
    assert starts == 4
    assert supervisor.restarts == {"edge": 3}
    assert "task edge crashed, starting it again in 0.1 s" in caplog.text
    assert "task edge ended, starting it again in 0.2 s" in caplog.text
    assert "RuntimeError: broken 1" in caplog.text
    assert "broken 4" not in caplog.text


async def test_the_waits_double_up_to_a_limit(waits: list[float]) -> None:
    supervisor = Supervisor()
    async with anyio.create_task_group() as tasks:

        async def crash() -> None:
            if len(waits) == 12:
                tasks.cancel_scope.cancel()
            raise RuntimeError

        tasks.start_soon(supervisor.keep, "edge", crash)
    expected = [min(module.FIRST_WAIT * 2**n, module.LAST_WAIT) for n in range(12)]
    assert waits[:12] == pytest.approx(expected)


async def test_a_group_of_failures_is_a_crash_too(
    waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor()
    async with anyio.create_task_group() as tasks:

        async def crash() -> None:
            if waits:
                tasks.cancel_scope.cancel()
                await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as inner:
                inner.start_soon(fail)

        async def fail() -> None:
            raise OSError("peer is gone")

        tasks.start_soon(supervisor.keep, "edge", crash)
    assert supervisor.restarts == {"edge": 1}
    assert "peer is gone" in caplog.text


async def test_tasks_are_counted_apart(waits: list[float]) -> None:
    supervisor = Supervisor()
    async with anyio.create_task_group() as tasks:

        async def once() -> None:
            if len(waits) >= 3:
                tasks.cancel_scope.cancel()
                await anyio.lowlevel.checkpoint()

        async def steady() -> None:
            await anyio.Event().wait()

        tasks.start_soon(supervisor.keep, "flaky", once)
        tasks.start_soon(supervisor.keep, "steady", steady)
    assert supervisor.restarts == {"flaky": 3, "steady": 0}


async def test_a_long_healthy_run_makes_the_wait_short_again(waits: list[float]) -> None:
    times = iter([0.0, 1.0, 1.0, 2.0, 2.0, 90.0, 90.0, 91.0, 91.0])
    supervisor = Supervisor(clock=lambda: next(times))
    async with anyio.create_task_group() as tasks:

        async def crash() -> None:
            if len(waits) == 4:
                tasks.cancel_scope.cancel()
                await anyio.lowlevel.checkpoint()
            raise RuntimeError("broken")

        tasks.start_soon(supervisor.keep, "edge", crash)
    assert waits == [0.1, 0.2, 0.1, 0.2]
