"""Where pods are guarded."""

from __future__ import annotations

from struct import pack

import pytest

from kmesh.core.guard_places import MIXED, GuardPlaces


@pytest.mark.parametrize("index", [1, 63, 0x3F00, 0x3F3F3F3F])
def test_every_interface_is_a_place(index: int) -> None:
    places, place = GuardPlaces(), pack("=I", index)
    assert places.tell(7, place)
    assert places.of(7) == place
    assert not places.tell(7, place)
    (link,) = places.plan([7], [7])
    places.done(link.command)  # type: ignore[arg-type]
    assert places.links == {7: place}
    assert not places.plan([7], [7])


@pytest.mark.parametrize("found", [MIXED + pack("=I", 2), pack("=I", 63) + MIXED])
def test_a_pod_that_is_guarded_twice_is_guarded_as_a_whole(found: bytes) -> None:
    places = GuardPlaces()
    places.adopt({7: found})
    assert places.of(7) == b""
    (link,) = places.plan([7], [7])
    places.done(link.command)  # type: ignore[arg-type]
    assert places.links == {7: b""}
