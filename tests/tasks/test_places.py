"""Where pods are guarded: new pods are looked at first, the others in turn within a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from kmesh.tasks import places as module
from kmesh.tasks.places import BUDGET, Places

if TYPE_CHECKING:
    from kmesh.bpf.load import DataPlane
    from kmesh.tasks.writer import Writer

pytestmark = pytest.mark.anyio


class Looks(Places):
    """Notes who is looked at; a look costs half of the budget."""

    def __init__(self) -> None:
        super().__init__(cast("DataPlane", None), cast("Writer", None), module.AUTO)
        self.at: list[int] = []

    async def look(self, cookie: int) -> float:
        self.at.append(cookie)
        return BUDGET / 2


async def looks(places: Looks, *cookies: Any) -> list[int]:
    places.at.clear()
    await places.round(cookies)
    return list(places.at)


async def test_new_pods_at_once_and_the_others_in_turn() -> None:
    places = Looks()
    assert await looks(places, 1, 2, 3, 4, 5) == [1, 2, 3, 4, 5]
    assert await looks(places, 1, 2, 3, 4, 5) == [1, 2]
    assert await looks(places, 1, 2, 3, 4, 5) == [3, 4]
    assert await looks(places, 1, 2, 3, 4, 5, 6) == [6, 5]
    assert await looks(places, 2, 3, 6) == [2, 3]
    assert await looks(places, 2, 3, 6) == [6, 2]
    assert await looks(places, 2) == [2]
    assert await looks(places) == []
