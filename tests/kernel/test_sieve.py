"""The bits that spare programs a look-up: never one too few, none for long that nobody needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kmesh.bpf import lib, load
from kmesh.bpf.copies import memory
from kmesh.core import addr
from tests.core.meshes import WEB, service
from tests.kernel.mesh import SMALL, dial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kernel.mesh import Mesh
    from tests.kernel.net import Namespace

pytestmark = pytest.mark.kernel
ONE = "10.1.0.1:8080"


def bits(mesh: Mesh) -> bytearray:
    return bytearray(memory(mesh.plane.maps["km_sieve"]))


def bits_of(mesh: Mesh, keys: Sequence[bytes]) -> bytearray:
    wanted = bytearray(len(bits(mesh)))
    lib.mark(memoryview(wanted), keys)
    return wanted


def restart(mesh: Mesh) -> None:
    """As another agent on the same pins."""
    bpffs = mesh.plane.root.removesuffix("/kmesh")
    mesh.plane.close()
    mesh.plane = load.start(bpffs, "", SMALL)


def test_an_address_without_a_bit_is_not_looked_up(steered: Mesh, pod: Namespace) -> None:
    assert dial(pod, "10.9.0.1", 80) == ONE
    memory(steered.plane.maps["km_sieve"])[:] = bytes(len(bits(steered)))
    before = steered.count("CONNECT4", "NOT_MESH")
    with pytest.raises(OSError):
        dial(pod, "10.9.0.1", 80)
    assert steered.count("CONNECT4", "NOT_MESH") == before + 1


def test_a_prefix_needs_no_bit(steered: Mesh, pod: Namespace) -> None:
    """What hides it does: a longer prefix is found by its own table."""
    steered.put(service(WEB, "10.8.0.0/16"))
    assert not any(bits_of(steered, list(steered.tables.scan().vips)))
    assert dial(pod, "10.8.3.4", 80) == ONE


def test_a_bit_is_there_before_its_record(
    steered: Mesh, pod: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, seen = lib.update_many, list[bytes]()

    def checked(fd: int, rows: Sequence[tuple[bytes, bytes]], sealed: bool = False) -> object:
        if fd == steered.plane.maps["km_vip"]:
            wanted, now = bits_of(steered, [key for key, _ in rows]), bits(steered)
            assert all(a & b == a for a, b in zip(wanted, now, strict=True))
            seen.extend(key for key, _ in rows)
        return update(fd, rows, sealed)

    monkeypatch.setattr(lib, "update_many", checked)
    steered.put(service(WEB, "10.9.0.1", "10.9.0.2", "fd09::1"))
    assert {key[:16] for key in seen} >= {addr.parse("10.9.0.2"), addr.parse("fd09::1")}
    assert dial(pod, "10.9.0.2", 80) == ONE


def test_records_lose_no_bit_while_services_come_and_go(steered: Mesh) -> None:
    for number in range(2, 40):
        steered.put(
            service(WEB, *(f"10.9.0.{i}" for i in range(number % 3, number, 1 + number % 4)))
        )
        wanted, now = bits_of(steered, list(steered.tables.scan().vips)), bits(steered)
        assert all(a & b == a for a, b in zip(wanted, now, strict=True))


def test_an_agent_that_starts_clears_what_no_record_needs(steered: Mesh, pod: Namespace) -> None:
    steered.put(service("default/gone", "10.9.0.7"))
    full = bits(steered)
    steered.remove("default/gone")
    assert bits(steered) == full
    restart(steered)
    assert bits(steered) != full
    assert bits(steered) == bits_of(steered, [k for k, _ in lib.rows(steered.plane.maps["km_vip"])])
    assert dial(pod, "10.9.0.1", 80) == ONE


def test_pins_of_a_build_without_bits_get_them_before_the_programs_change(
    steered: Mesh, pod: Namespace
) -> None:
    os.unlink(f"{steered.plane.root}/maps/km_sieve")
    restart(steered)
    assert dial(pod, "10.9.0.1", 80) == ONE


def test_bigger_tables_keep_their_bits(steered: Mesh, pod: Namespace) -> None:
    before = bits(steered)
    steered.tables.grow(512, 512)
    assert bits(steered) == before
    assert dial(pod, "10.9.0.1", 80) == ONE
    steered.put(service(WEB, "10.9.0.3"))
    assert dial(pod, "10.9.0.3", 80) == ONE
