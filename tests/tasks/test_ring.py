"""A turn of the reader ends when its time is over, also when there is no end of records."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from kmesh.tasks import ring
from kmesh.tasks.ring import BUDGET, TURN, RingReader, Turn
from tests.core.test_labels import steering
from tests.tasks.test_telemetry import Bench

if TYPE_CHECKING:
    import pytest

    from kmesh.bpf.load import DataPlane
    from kmesh.core.records import Batch


class Endless:
    """A ring that is never empty, and a clock: each read takes a third of a turn."""

    now = 0.0

    def __init__(self, *_: object) -> None:
        self._raw = Bench().connection().pack() * TURN

    def drain(self) -> tuple[bytes, bool]:
        Endless.now += BUDGET / 3
        return self._raw, True


class Plane:
    maps = {"km_events": 0}  # noqa: RUF012 nobody changes it


def test_a_turn_has_a_budget_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "Ring", Endless)
    monkeypatch.setattr(ring, "TrafficReader", lambda plane: None)
    monkeypatch.setattr(ring, "monotonic", lambda: Endless.now)
    reader = RingReader(cast("DataPlane", Plane()), steering())
    told: list[Batch] = []
    reader.subscribe(told.append)
    turn = reader._turn()
    assert turn == Turn(sum(map(len, told)), more=True)
    assert 2 <= len(told) <= 4
    assert {len(each) for each in told} == {TURN}
