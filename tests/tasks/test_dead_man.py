"""When the deadline is put off."""

from __future__ import annotations

import anyio
import pytest

from kmesh.tasks.dead_man import DeadMan


class Switches:
    """Keeps what is written."""

    def __init__(self, deadline: int = 0) -> None:
        self.deadline = deadline
        self.written: list[int] = []
        self.often = anyio.Event()

    def let_go(self, deadline: int) -> None:
        self.deadline = deadline
        self.written.append(deadline)
        if len(self.written) == 5:
            self.often.set()


class Clock:
    """Stands still until it is set."""

    now = 1000.5

    def __call__(self) -> float:
        return self.now


async def never() -> None:
    await anyio.sleep_forever()


def made(switches: Switches, hours: float | None, clock: Clock) -> DeadMan:
    return DeadMan(hours, switches, never, clock)  # type: ignore[arg-type]


def test_the_deadline_is_never_earlier_than_asked_for() -> None:
    clock, switches = Clock(), Switches()
    dead_man = made(switches, 1.0, clock)
    assert switches.written == [4601]
    assert dead_man.state() == (3600.0, 3600.5, False)
    clock.now = 4601.0
    assert dead_man.state() == (3600.0, 0.0, True)


def test_without_the_option_an_earlier_one_is_taken_back() -> None:
    switches = Switches(5000)
    assert made(switches, None, Clock()).state() == (None, None, False)
    assert switches.written == [0]


@pytest.mark.anyio
async def test_it_is_put_off_while_the_agent_runs() -> None:
    clock, switches = Clock(), Switches()
    dead_man = made(switches, 0.01 / 3600, clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dead_man.run)
        await switches.often.wait()
        tasks.cancel_scope.cancel()
    assert set(switches.written) == {1001}


@pytest.mark.anyio
@pytest.mark.parametrize("hours", [1.0, None])
async def test_what_let_go_stays_so_until_the_mesh_is_in_sync(hours: float | None) -> None:
    clock, switches, synced = Clock(), Switches(900), anyio.Event()
    dead_man = DeadMan(hours, switches, synced.wait, clock)  # type: ignore[arg-type]
    assert dead_man.state().let_go
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dead_man.run)
        await anyio.wait_all_tasks_blocked()
        assert switches.written == []
        synced.set()
        await anyio.wait_all_tasks_blocked()
        assert not dead_man.state().let_go
        tasks.cancel_scope.cancel()
    assert len(switches.written) >= 1
