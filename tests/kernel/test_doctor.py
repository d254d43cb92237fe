"""kmesh doctor on this kernel: it loads everything, attaches nothing, and knows its neighbours."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmesh.bpf import lib, load, loader, mounts, objects, query, removal
from kmesh.cli.doctor import look, others, pinned
from kmesh.cli.main import main
from kmesh.core import foreign
from kmesh.core.verdicts import FAILED, INFO, OK, WARNING, Verdict
from kmesh.errors import BpfError
from tests.kernel.mesh import SMALL
from tests.kernel.stranger import stranger

if TYPE_CHECKING:
    from kmesh.bpf.objects import Object
    from tests.kernel.net import Namespace

pytestmark = pytest.mark.kernel


def levels(verdicts: list[Verdict]) -> set[str]:
    return {verdict.level for verdict in verdicts}


@pytest.mark.parametrize("one", objects.OBJECTS, ids=lambda one: Path(one.path).name)
def test_programs_load_and_are_gone_again(one: Object) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (verdict,) = look.program(one)
    assert verdict.level in ((OK, WARNING) if one.without else (OK,))
    if verdict.level == OK:
        assert verdict.found == ", ".join(program.name for program in one.programs)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_object_that_the_kernel_refuses(tmp_path: Path) -> None:
    (tmp_path / "bad.bpf.o").write_bytes(b"no object")
    bad = objects.SOCK._replace(path=str(tmp_path / "bad.bpf.o"))
    (verdict,) = look.program(bad)
    assert (verdict.level, verdict.name) == (FAILED, "bad")
    assert "cannot open" in verdict.found


def test_programs_that_the_verifier_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        look, "try_load", lambda _: (13, "first\nR1 invalid mem access\nprocessed 1")
    )
    (needed,) = look.program(objects.SOCK)
    assert (needed.level, needed.found) == (FAILED, "refused: Permission denied")
    assert "R1 invalid mem access" in needed.next_step
    (optional,) = look.program(objects.EVICT)
    assert optional.level == WARNING
    assert objects.EVICT.without in optional.means
    assert optional.next_step.endswith("R1 invalid mem access")


def test_this_kernel_can(bpffs: str) -> None:
    found = [*look.machine(), *look.permissions(), *look.features(), *look.places(bpffs, "")]
    assert FAILED not in levels(found)
    names = {verdict.name for verdict in found}
    assert {"kernel", "BTF", "capabilities", "bpffs", "cgroup2", "pins", "ring buffers"} <= names


@pytest.mark.parametrize(
    ("probe", "name"),
    [("lib.tells_netns_cookie", "cookies of sockets' namespaces"),
     ("query.has_interface_links", "links on interfaces")],
)  # fmt: skip
def test_what_is_replaced_where_it_is_missing(
    probe: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"kmesh.cli.doctor.look.{probe}", lambda *_: False)
    (found,) = (verdict for verdict in look.features() if verdict.name == name)
    assert (found.level, found.found) == (INFO, "no")
    assert "instead" in found.means


def test_links_on_interfaces_are_known_by_trying(ends: tuple[Namespace, Namespace]) -> None:
    """The probe only asks; here one is made."""
    pod, _ = ends
    maps, programs = loader.load({}, {name: n for name in objects.MAPS if (n := SMALL.of(name))})
    try:
        link = lib.attach_interface(pod.fd, programs["km_ingress"], 1, objects.TCX_INGRESS)
        os.close(link)
        can = True
    except BpfError:
        can = False
    finally:
        loader.close([*maps.values(), *programs.values()])
    assert query.has_interface_links() == can


def test_mounts_that_are_missing(tmp_path: Path) -> None:
    found = {verdict.name: verdict for verdict in look.places(str(tmp_path), str(tmp_path))}
    assert found["bpffs"].level == found["cgroup2"].level == FAILED
    assert f"mount -t bpf bpf {tmp_path}" in found["bpffs"].next_step


def test_pins_of_this_and_of_another_version(bpffs: str) -> None:
    assert "no agent has run yet" in next(pinned.found(bpffs)).found
    plane = load.start(bpffs, "", SMALL)
    try:
        assert next(pinned.found(bpffs)).level == OK
        meta = lib.pinned(f"{bpffs}/kmesh/maps/km_meta")
        assert meta is not None
        size = lib.map_info(meta).value_size
        lib.update(meta, bytes(4), b"x" * size)
        os.close(meta)
        verdict = next(pinned.found(bpffs))
        assert (verdict.level, "of another build: " in verdict.found) == (OK, True)
    finally:
        plane.close()
        removal.remove(bpffs)


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("cil_sock4_connect", "Cilium's socket load balancer"),
        ("calico_connect_v4", "Calico's connect-time load balancer"),
        ("cgroup_connect4_prog", "an upstream Kmesh agent"),
        ("somebody", "an unknown program"),
        ("km_connect4", "another kmesh agent, with other pins"),
    ],
)
def test_strangers_are_known_by_name(name: str, whose: str) -> None:
    with stranger(name) as cgroup:
        (verdict,) = others.at_cgroups(str(cgroup), set())
    assert verdict.level == WARNING
    assert verdict.found.startswith(f"{whose} at {cgroup}: connect4: {name[:15]} (id ")
    assert verdict.means and verdict.next_step


def test_what_an_owner_has_at_many_places_is_said_once() -> None:
    whose = foreign.owner("cil_x")
    assert whose is not None
    found = [
        others.Stranger(whose, f"/{place}", "connect4", "cil_x", number)
        for place in "abcde"
        for number in ((3,) if place == "c" else (1, 2))
    ]
    several, one = others.verdicts("cgroups", "5 cgroups", found)
    assert several.found == f"{whose.name} at /a, /b, /d and 1 more: connect4: cil_x (ids 1, 2)"
    assert one.found == f"{whose.name} at /c: connect4: cil_x (id 3)"


def test_systemd_is_no_warning() -> None:
    with stranger("sd_restrictif") as cgroup:
        found = list(others.at_cgroups(str(cgroup), set()))
    assert [verdict.level for verdict in found] == [OK, "info"]


def test_nobody_else() -> None:
    with stranger("km_connect4") as cgroup:
        ids = query.attached_at(str(cgroup), objects.CGROUP["connect4"])
        assert ids
        (verdict,) = others.at_cgroups(str(cgroup), set(ids))
    assert (verdict.level, verdict.found) == (OK, "nobody else in 1 cgroups")


def test_own_programs_are_known_by_their_pins(bpffs: str) -> None:
    plane = load.start(bpffs, "", SMALL)
    try:
        own = others.pinned_programs(f"{bpffs}/kmesh/links")
        ids = query.attached_at(mounts.find_cgroup2(), objects.CGROUP["connect4"]) or []
        assert {lib.program_id(plane.programs["km_connect4"])} <= own
        strangers = others.strangers("here", "connect4", ids, own)
        mine = lib.program_id(plane.programs["km_connect4"])
        assert not [each for each in strangers if each.number == mine]
    finally:
        plane.close()
        removal.remove(bpffs)


def test_plugins(tmp_path: Path) -> None:
    (tmp_path / "10-a.conflist").write_text('{"plugins": [{"type": "ptp"}, {"type": "istio-cni"}]}')
    (tmp_path / "20-b.conflist").write_text("no json")
    first, second = others.plugins(str(tmp_path))
    assert first.found.endswith("10-a.conflist: ptp, istio-cni")
    assert "ambient" in first.means
    assert second.level == WARNING


def test_pins_of_others(tmp_path: Path) -> None:
    (tmp_path / "cilium").mkdir()
    (verdict,) = others.other_pins(str(tmp_path))
    assert "Cilium" in verdict.means


def test_the_command(bpffs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--bpf-fs-path", bpffs, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert {check["group"] for check in found["checks"]} >= {look.SYSTEM, look.PROGRAMS}
    assert not Path(bpffs, "kmesh").exists()
    assert main(["doctor", "--bpf-fs-path", "/none", "--quiet"]) == 1
    text = capsys.readouterr().out
    assert "The agent cannot run here: 1 failed" in text
    assert " ok " not in text
