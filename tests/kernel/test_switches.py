"""Switches in the pinned map: thrown, read by the programs, back after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kmesh.abi.layout import AVOIDING_SIZE, SWITCH_SIZE, Avoiding, Switch
from kmesh.bpf import lib
from kmesh.core.switches import HELD, REFUSALS, Held, Settings
from kmesh.tasks.state_file import StateFile
from kmesh.tasks.switches import Switchboard, SwitchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kernel.mesh import Mesh

pytestmark = [pytest.mark.kernel, pytest.mark.anyio]


class Writer:
    """Works at once."""

    async def ask(self, work: Callable[[], Any]) -> Any:
        return work()

    def soon(self, work: Callable[[], None]) -> None:
        work()


def board(mesh: Mesh, file: Path, **wanted: Any) -> Switchboard:
    return Switchboard(mesh.plane, Writer(), Settings(**wanted), StateFile(file))  # type: ignore[arg-type]


def row(mesh: Mesh) -> Switch:
    raw = lib.lookup(mesh.plane.maps["km_switch"], bytes(4), SWITCH_SIZE)
    assert raw is not None
    return Switch.unpack(raw)


async def test_what_was_thrown_survives_and_new_options_win(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "namespaces.json"
    first = board(mesh, file)
    assert (row(mesh).access_log, row(mesh).authz_off) == (0, 0)
    await first.change(access_log=True, authz=False, sample=50, namespaces={"shop": False})
    assert (row(mesh).access_log & 1, row(mesh).authz_off, row(mesh).sample) == (1, 1, 1 << 15)
    again = board(mesh, file)
    assert again.settings == first.settings
    other = board(mesh, file, sample=10.0)
    assert (other.settings.access_log, other.settings.authz) == (False, True)
    assert other.settings.namespaces == {"shop": False}, "there is no option for namespaces"
    assert row(mesh).authz_off == 0


async def test_who_reads_gets_records_and_nothing_stays_behind(mesh: Mesh, tmp_path: Path) -> None:
    switches = board(mesh, tmp_path / "namespaces.json")
    switches.hold("events", Held.REFUSALS)
    assert (row(mesh).access_log, row(mesh).kept & REFUSALS) == (0, REFUSALS)
    switches.hold("events", Held.ALL)
    switches.hold("otlp", Held.ALL)
    assert row(mesh).access_log & HELD
    switches.hold("events", Held.NOTHING)
    assert row(mesh).access_log & HELD, "the other one still reads"
    board(mesh, tmp_path / "namespaces.json")
    assert row(mesh).access_log == 0, "a reader does not outlive the agent"
    assert not row(mesh).kept & REFUSALS


async def test_without_avoiding_the_list_is_over_at_once(mesh: Mesh, tmp_path: Path) -> None:
    switches = board(mesh, tmp_path / "namespaces.json", avoid=2.5)
    assert row(mesh).avoid_ms == 2500
    fd = mesh.plane.maps["km_avoiding"]
    lib.update(fd, bytes(4), Avoiding(1 << 60).pack())
    await switches.change(avoid=1)
    assert lib.lookup(fd, bytes(4), AVOIDING_SIZE) == Avoiding(1 << 60).pack()
    await switches.change(avoid=0)
    assert row(mesh).avoid_ms == 0
    assert lib.lookup(fd, bytes(4), AVOIDING_SIZE) == bytes(AVOIDING_SIZE)


async def test_subscribers_hear_of_changes(mesh: Mesh, tmp_path: Path) -> None:
    switches = board(mesh, tmp_path / "namespaces.json")
    heard: list[Settings] = []
    switches.subscribe(heard.append)
    await switches.change(steps=True)
    assert [each.steps for each in heard] == [False, True]


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": True}, {"authz": 1}, {"sample": 0}, {"sample": True}, {"sample": 101},
        {"log_level": "loud"}, {"namespaces": ["shop"]}, {"namespaces": {"shop": "on"}},
        {"avoid": -1}, {"avoid": True}, {"avoid": 3601}, {"avoid": "never"},
    ],
)  # fmt: skip
async def test_nonsense_changes_nothing(
    mesh: Mesh, tmp_path: Path, changes: dict[str, Any]
) -> None:
    switches = board(mesh, tmp_path / "namespaces.json")
    before = switches.settings, row(mesh)
    with pytest.raises(SwitchError):
        await switches.change(metrics=False, **changes)
    assert (switches.settings, row(mesh)) == before


async def test_a_broken_file_is_forgotten(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "namespaces.json"
    for text in ("{", '{"shop": 1}', "[]"):
        file.write_text(text)
        assert board(mesh, file).settings.namespaces == {}
