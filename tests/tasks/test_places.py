"""Where pods are guarded: new pods are looked at first, the others in turn within a budget."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from kmesh.core.guard_places import GuardPlaces
from kmesh.errors import BpfError
from kmesh.tasks import places as module
from kmesh.tasks.places import BUDGET, Places

if TYPE_CHECKING:
    from kmesh.bpf.load import DataPlane
    from kmesh.tasks.writer import Writer

pytestmark = pytest.mark.anyio
BROKEN = 99


class Looks(Places):
    """Notes who is looked at; a look costs a little more than half of the budget."""

    def __init__(self) -> None:
        guards = SimpleNamespace(places=GuardPlaces())
        writer = SimpleNamespace(steering=SimpleNamespace(guards=guards))
        self.at: list[int] = []
        self.spent = 0.0
        super().__init__(
            cast("DataPlane", None), cast("Writer", writer), module.AUTO, lambda: self.spent
        )

    def _find(self, cookie: int, already: bool) -> bytes | None:
        self.at.append(cookie)
        self.spent += 0.51 * BUDGET
        if cookie == BROKEN:
            raise BpfError("cannot look", 5)
        return None


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


async def test_many_new_pods_are_all_looked_at_whatever_one_of_them_says() -> None:
    places = Looks()
    many = [*range(2 * module.SLICE + 3), BROKEN]
    assert await looks(places, *many) == many
    assert places._failures == 1
    assert places._looks == len(many)
    assert await looks(places, *many) == [0, 1]
