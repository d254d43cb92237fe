"""Other tables under the running programs: all of it, or nothing, and never a moment without."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmesh.abi import migrate
from kmesh.abi.layout import META_SIZE, Meta
from kmesh.abi.migrate import Unlike
from kmesh.abi.shapes import Leaf, Shape
from kmesh.bpf import carry, copies, lib, load, loader, pins
from kmesh.bpf.objects import META
from kmesh.errors import BpfError, NotCarried, SwitchFailed
from tests.held import linked
from tests.kernel.mesh import SMALL, dial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace

pytestmark = pytest.mark.kernel
ONE = "10.1.0.1:8080"


def bpffs(mesh: Mesh) -> str:
    return mesh.plane.root.removesuffix("/kmesh")


def ids(root: str) -> dict[str, int]:
    """Of the maps of the generation in force."""
    found = pins.opened(root)
    try:
        return {name: lib.map_info(fd).id for name, fd in found.items()}
    finally:
        loader.close(found.values())


def attached(mesh: Mesh) -> dict[str, int]:
    """Id of the program behind each link."""
    return linked(Path(mesh.plane.root, "links"))


def test_a_switch_that_fails_at_any_link_is_undone(
    steered: Mesh, pod: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The links of the cgroup, then the one of a pod's namespace."""
    plane = steered.plane
    plane.guards.paths[pod.cookie] = pod.path
    plane.guards.attach(pod.cookie, b"", plane.programs)
    before, maps = attached(steered), ids(plane.root)
    kept = {name: fd for name, fd in plane.maps.items() if name != "km_vip"}
    new_maps, programs = loader.load(kept, {"km_vip": 512})
    replace, left = lib.replace_program, [0]

    def failing(link: int, program: int, expected: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise BpfError("a stranger was here", 1)
        replace(link, program, expected)

    monkeypatch.setattr(lib, "replace_program", failing)
    for number in range(1, len(before) + 1):
        left[0] = number
        with pytest.raises(SwitchFailed, match="a stranger was here; all links keep") as caught:
            plane.put(new_maps, programs)
        assert any(f"{name} cannot be put behind" in str(caught.value) for name in programs)
        assert "bpftool link" in str(caught.value)
        assert attached(steered) == before
        assert ids(plane.root) == maps
        assert dial(pod, "10.9.0.1", 80) == ONE
    plane.put(new_maps, programs)
    assert not set(attached(steered).values()) & set(before.values())
    assert {name for name, number in ids(plane.root).items() if maps[name] != number} == {"km_vip"}
    loader.close([*new_maps.values(), *programs.values()])


def test_a_link_that_a_stranger_changed_meanwhile_is_not_taken_from_him(
    steered: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, before = steered.plane, attached(steered)
    maps, programs = loader.load(plane.maps, {})
    replace, once = lib.replace_program, [True]

    def outrun(link: int, program: int, expected: int) -> None:
        if once and lib.link_info(link).program == before["sendmsg4"]:
            once.clear()
            replace(link, programs["km_sendmsg4"], expected)
        replace(link, program, expected)

    monkeypatch.setattr(lib, "replace_program", outrun)
    with pytest.raises(SwitchFailed, match=r"km_sendmsg4 cannot be put behind .*sendmsg4: .*EPERM"):
        plane.replace({"km_vip": 512})
    his = {"sendmsg4": lib.program_id(programs["km_sendmsg4"])}
    assert attached(steered) == before | his
    loader.close([*maps.values(), *programs.values()])


STEPS: tuple[tuple[object, str], ...] = (
    (os, "rename"), (lib, "replace_program"), (lib, "attach"), (pins, "drop"), (pins, "stage"),
)  # fmt: skip


def die_at(step: int) -> None:
    """End this process at the n-th operation from here on, as SIGKILL does."""
    calls = [0]

    def dying(call: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object) -> object:
            if calls[0] == step:
                os._exit(1)
            calls[0] += 1
            return call(*args)

        return run

    for owner, name in STEPS:
        setattr(owner, name, dying(getattr(owner, name)))


def test_a_crash_between_any_two_steps_leaves_a_whole_generation(
    steered: Mesh, pod: Namespace
) -> None:
    plane = steered.plane
    names, rows = plane.maps.keys(), steered.tables.scan().vips
    kept = {name: fd for name, fd in plane.maps.items() if name != "km_vip"}
    maps, programs = loader.load(kept, {"km_vip": 512})
    copies.copy(plane.maps["km_vip"], maps["km_vip"])
    died = []
    for step in range(100):
        child = os.fork()
        if not child:
            die_at(step)
            plane.put(maps, programs)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        died.append(os.waitstatus_to_exitcode(status))
        assert dial(pod, "10.9.0.1", 80) == ONE
        pins.recover(plane.root)
        now = pins.opened(plane.root)
        assert now.keys() == names
        assert dict(lib.rows(now["km_vip"])) == rows
        loader.close(now.values())
        if not died[-1]:
            break
    assert len(died) > len(attached(steered)), "every link is a step"
    assert set(died[:-1]) == {1}
    assert died[-1] == 0
    loader.close([*maps.values(), *programs.values()])
    steered.plane.close()
    steered.plane = load.start(bpffs(steered), "", SMALL)
    assert lib.map_info(steered.plane.maps["km_vip"]).max_entries == 512
    assert dial(pod, "10.9.0.1", 80) == ONE


@pytest.fixture
def other_layout(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """The pinned maps seem to be of a build in which a field of a value has another name."""
    found = dict(carry.definitions())

    def rename(name: str, field: str, to: str) -> None:
        value = found[name].value
        assert value is not None
        fields = {to if each == field else each: leaf for each, leaf in value.fields.items()}
        found[name] = found[name]._replace(value=value._replace(fields=fields))

    monkeypatch.setattr(carry, "definitions", lambda: found)
    monkeypatch.setattr(carry, "FINGERPRINT", b"y" * 32)
    yield rename


@pytest.mark.parametrize(
    ("name", "field"), [("km_pod", "uid"), ("km_enrol", "workload"), ("km_switch", "authz_off")]
)
def test_what_nobody_can_tell_us_again_is_never_lost(
    steered: Mesh, pod: Namespace, other_layout: Callable[[str, str, str], None], name: str,
    field: str,
) -> None:  # fmt: skip
    other_layout(name, field, "novelty")
    before = attached(steered)
    steered.plane.close()
    with pytest.raises(NotCarried, match=f"{name}: {field} went and novelty came"):
        load.start(bpffs(steered), "", SMALL)
    assert attached(steered) == before
    assert dial(pod, "10.9.0.1", 80) == ONE


def test_a_family_is_taken_over_whole_or_filled_whole(
    steered: Mesh, pod: Namespace, other_layout: Callable[[str, str, str], None]
) -> None:
    other_layout("km_slot", "gen", "novelty")
    before = attached(steered)
    steered.plane.close()
    waiting = load.start(bpffs(steered), "", SMALL)
    steered.plane = waiting
    assert waiting.waits == ("services",)
    assert list(lib.rows(waiting.maps["km_vip"])) == []
    assert len(list(lib.rows(waiting.maps["km_pod"]))) == 1
    assert attached(steered) == before
    assert dial(pod, "10.9.0.1", 80) == ONE
    assert Path(waiting.root, "next/km_vip").exists()


def test_a_family_without_rows_is_not_waited_for(
    mesh: Mesh, other_layout: Callable[[str, str, str], None]
) -> None:
    other_layout("km_slot", "gen", "novelty")
    mesh.plane.close()
    mesh.plane = load.start(bpffs(mesh), "", SMALL)
    assert mesh.plane.waits == ()


def test_tables_of_another_build_with_the_same_layout_are_used(
    steered: Mesh, pod: Namespace
) -> None:
    lib.update(steered.plane.maps[META], bytes(4), Meta(b"x" * 32, 0).pack())
    ids = {name: lib.map_info(fd).id for name, fd in steered.plane.maps.items()}
    steered.plane.close()
    steered.plane = load.start(bpffs(steered), "", SMALL)
    raw = lib.lookup(steered.plane.maps[META], bytes(4), META_SIZE)
    assert raw is not None
    assert Meta.unpack(raw).fingerprint != b"x" * 32
    new = {n for n, fd in steered.plane.maps.items() if lib.map_info(fd).id != ids[n]}
    assert new == {META, "km_events", "km_logs"}
    assert dial(pod, "10.9.0.1", 80) == ONE


def test_a_row_that_does_not_fit_is_found_before_anything_is_made(steered: Mesh) -> None:
    definition = carry.definitions()["km_vip"]
    assert definition.value is not None
    narrow = definition.value.fields["port"]._replace(size=1, element=1)
    value = definition.value._replace(fields=definition.value.fields | {"port": narrow})
    with pytest.raises(Unlike, match="port is too large"):
        carry.judge("km_vip", steered.plane.maps["km_vip"], definition._replace(value=value))


def test_rows_of_a_mapped_array_are_converted(steered: Mesh) -> None:
    shape = carry.definitions()["km_slot"].value
    assert shape is not None
    places = {"workload": 20, "port": 16, "gen": 18}
    fields = {n: leaf._replace(offset=places.get(n, 0)) for n, leaf in shape.fields.items()}
    key = Shape(4, {"": Leaf(0, 4, 4)})
    rows = migrate.rows((key, shape), (key, shape._replace(fields=fields)))
    old = steered.plane.maps["km_slot"]
    kept = {name: fd for name, fd in steered.plane.maps.items() if name != "km_slot"}
    maps, programs = loader.load(kept, {"km_slot": SMALL.slots})
    copies.copy(old, maps["km_slot"], rows)
    before, after = bytes(copies.memory(old)), bytes(copies.memory(maps["km_slot"]))
    assert any(before)
    for at in range(0, len(before), shape.size):
        one, other = before[at : at + shape.size], after[at : at + shape.size]
        assert other == one[:16] + one[20:24] + one[16:20]
    loader.close([*maps.values(), *programs.values()])
