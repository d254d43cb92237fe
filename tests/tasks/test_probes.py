"""Probes: a writer that does not turn is neither ready nor alive."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import ClientSession

from kmesh.core.options import Listen
from kmesh.tasks import probes
from kmesh.tasks.listener import Listener
from kmesh.tasks.probes import Probes

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


class Writer:
    """Turns unless it is stuck; its steering is as told."""

    def __init__(self, started: bool = False, records: int = 0, stuck: bool = False) -> None:
        planner = SimpleNamespace(records=range(records))
        self.steering = SimpleNamespace(started=started, planner=planner)
        self._stuck = stuck

    async def ask(self, work: Callable[[], Any]) -> Any:
        if self._stuck:
            await anyio.sleep_forever()
        return work()


async def asked(path: str, writer: Any, synced: bool = False, xds: Any = None) -> tuple[int, str]:
    """Status and text."""
    made = Probes(writer, SimpleNamespace(synced=synced), xds)  # type: ignore[arg-type]
    listener = Listener("probes", Listen("127.0.0.1", 0), made.routes())
    async with anyio.create_task_group() as tasks:
        await tasks.start(listener.run)
        url = f"http://{listener.listening[0]}/healthz/{path}"
        async with ClientSession() as client, client.get(url) as answer:
            found = answer.status, (await answer.text()).strip()
        tasks.cancel_scope.cancel()
    return found


@pytest.mark.parametrize(
    ("writer", "synced", "xds", "expected"),
    [
        (Writer(), False, object(), (500, "not ready, pending: control plane")),
        (Writer(), False, None, (200, "ready: without a control plane, as configured")),
        (Writer(started=True), True, object(), (200, "ready: in sync with the control plane")),
        (
            Writer(started=False, records=3), False, object(),
            (200, "ready: from cache, 3 records; the control plane is away"),
        ),
    ],
)  # fmt: skip
async def test_ready(writer: Writer, synced: bool, xds: Any, expected: tuple[int, str]) -> None:
    assert await asked("ready", writer, synced, xds) == expected


async def test_a_stuck_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "READY_WITHIN", 0.01)
    monkeypatch.setattr(probes, "LIVE_WITHIN", 0.01)
    stuck = Writer(stuck=True)
    assert await asked("ready", stuck, True, object()) == (
        500, "not ready, pending: writer, control plane",
    )  # fmt: skip
    assert await asked("live", stuck) == (500, "the writer does not turn")
