"""What the writer's brain makes of tables that another filled, and of damaged ones."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.check import seal, seal_last
from kmesh.abi.layout import SLOT_SIZE, Reason, Vip, VipAction
from kmesh.core import addr
from kmesh.core.commands import CIDR, ENROL, POD, VIP
from kmesh.core.model import Service, Workload
from tests.core.brain import ADDR, ADDR2, IP, RANKED, RICH, SECOND, A, Mesh, row, started
from tests.core.meshes import DB, WEB, uid

if TYPE_CHECKING:
    from collections.abc import Callable


# Restart


def restart(mesh: Mesh) -> Mesh:
    """Another process on the same tables."""
    return Mesh(mesh.tables)


def everything(mesh: Mesh) -> list[Workload | Service]:
    store = mesh.steer.store
    return [*store.services.values(), *store.workloads.values()]


def test_an_unchanged_mesh_writes_nothing_and_ids_are_the_same() -> None:
    old = started(*RICH)
    old.steer.enrol(7, uid("client"))
    old.steer.enrol(8, uid("e"))
    old.settle()
    before = old.tables.scan()
    new = restart(old)
    new.put(*reversed(everything(old)))
    assert new.settle() == []
    new.steer.start()
    assert new.settle() == []
    assert new.tables.scan() == before
    for name in (WEB, DB):
        assert new.steer.service_ids.get(name) == old.steer.service_ids.get(name)
    for one in RICH:
        if isinstance(one, Workload):
            ids = (new.steer.workload_ids.get(one.uid), old.steer.workload_ids.get(one.uid))
            assert ids[0] == ids[1], one.uid


def test_a_new_daemon_hands_out_no_id_that_lies_in_the_maps() -> None:
    old = started(*RICH)
    new = restart(old)
    taken = {old.steer.workload_ids.get(uid(name)) for name in ("a", "d", "e")}
    assert taken == {1, 2, 3}
    assert new.steer.workload_ids.get("somebody new") not in taken
    assert new.steer.service_ids.get("somebody/new") > old.steer.service_ids.get(DB)


def test_what_the_mesh_no_longer_has_is_dropped_after_the_start_only() -> None:
    old = started(*RICH)
    new = restart(old)
    new.put(RANKED, A)
    assert new.settle() == []
    assert new.met(ip=SECOND) != Reason.NOT_MESH
    new.steer.start()
    new.settle()
    assert new.met(ip=SECOND) is Reason.NOT_MESH
    assert new.tables.tables[CIDR] == {}
    assert new.met() == {"10.1.0.1:8080"}


def test_a_pod_enrolled_long_ago_can_be_withdrawn_by_the_next_daemon() -> None:
    old = started(*RICH)
    old.steer.enrol(7, uid("client"))
    old.settle()
    new = restart(old)
    assert new.steer.pods.wanted == {7: uid("client")}
    new.steer.withdraw(7)
    new.settle()
    assert new.tables.tables[ENROL] == new.tables.tables[POD] == {}


def test_a_name_whose_enrolment_was_never_written_is_removed() -> None:
    old = started(*RICH)
    old.tables.tables[POD][(9).to_bytes(8, "little")] = b"left over".ljust(512, b"\0")
    new = restart(old)
    new.put(*everything(old))
    new.steer.start()
    new.settle()
    assert new.tables.tables[POD] == {}


def edit(mesh: Mesh, port: int, resealed: bool = True, **fields: int) -> None:
    """Damage the record of a port at IP."""
    for raw, value in mesh.tables.tables[VIP].items():
        if raw[:16] == ADDR and raw[20:22] == port.to_bytes(2, "little"):
            changed = Vip.unpack(value)._replace(**fields).pack()
            mesh.tables.tables[VIP][raw] = seal(raw, changed) if resealed else changed


def wrong_gen(mesh: Mesh) -> None:
    edit(mesh, 80, gen=777)


def wrong_slot(mesh: Mesh) -> None:
    (value,) = (v for k, v in mesh.tables.tables[VIP].items() if k[:22] == ADDR + b"\0\0\0\0P\0")
    at = Vip.unpack(value).base * SLOT_SIZE + 22
    mesh.tables.slots[at] ^= 1


def unknown_action(mesh: Mesh) -> None:
    edit(mesh, 80, action=99)


def unknown_reason(mesh: Mesh) -> None:
    edit(mesh, 0, reason=99)


def no_slots(mesh: Mesh) -> None:
    edit(mesh, 80, slots=0)


def endless_slots(mesh: Mesh) -> None:
    edit(mesh, 80, slots=0xFFFFFFFF)


def beyond_the_array(mesh: Mesh) -> None:
    edit(mesh, 80, base=0xFFFFFFF0)


def bad_check(mesh: Mesh) -> None:
    edit(mesh, 80, resealed=False, check=1)


def everything_is_ones(mesh: Mesh) -> None:
    for raw in mesh.tables.tables[VIP]:
        mesh.tables.tables[VIP][raw] = b"\xff" * 32


def foreign_rows(mesh: Mesh) -> None:
    for raw, value in [*mesh.tables.tables[VIP].items()]:
        other = raw[:16] + b"\x63\0\0\0" + raw[20:]
        mesh.tables.tables[VIP][other] = seal(other, value)


def orphan_cidr(mesh: Mesh) -> None:
    base = addr.parse("10.9.0.0")
    key = (120).to_bytes(4, "little") + base
    mesh.tables.tables[CIDR][key] = base + (120).to_bytes(4, "little")


def lost_row(mesh: Mesh) -> None:
    tables = mesh.tables.tables
    tables[VIP] = {k: v for k, v in tables[VIP].items() if k[:22] != ADDR + b"\0\0\0\0P\0"}


DAMAGE = (
    wrong_gen, wrong_slot, unknown_action, unknown_reason, no_slots, endless_slots,
    beyond_the_array, bad_check, everything_is_ones, foreign_rows, orphan_cidr, lost_row,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damaged_rows_heal(damage: Callable[[Mesh], None]) -> None:
    old = started(*RICH)
    wanted = [old.met(port, ip) for ip in (IP, SECOND, "10.8.1.1") for port in (80, 443, 9)]
    keys = set(old.tables.tables[VIP])
    cidrs = dict(old.tables.tables[CIDR])
    damage(old)
    new = restart(old)
    new.put(*everything(old))
    new.steer.start()
    assert new.settle() != []
    found = [new.met(port, ip) for ip in (IP, SECOND, "10.8.1.1") for port in (80, 443, 9)]
    assert found == wanted
    assert set(new.tables.tables[VIP]) == keys
    assert new.tables.tables[CIDR] == cidrs
    new.now += 10
    assert new.settle() == []


def test_overlapping_segments_are_torn_apart() -> None:
    old = started(*RICH)
    web = next(v for k, v in old.tables.tables[VIP].items() if k[:16] == ADDR2 and k[20] == 80)
    at = Vip.unpack(web)
    edit(old, 80, base=at.base, slots=1, gen=at.gen, service=77)
    new = restart(old)
    new.put(*everything(old))
    new.steer.start()
    new.settle()
    assert new.met() == {"10.1.0.1:8080", "10.1.0.5:8080"}
    assert new.met(ip=SECOND) == {"10.1.0.4:1", "10.1.0.5:1"}
    blocks = {
        (row.base, row.slots)
        for row in map(Vip.unpack, new.tables.tables[VIP].values())
        if row.action == VipAction.BALANCE
    }
    for (one, size), (two, _) in itertools.combinations(sorted(blocks), 2):
        assert one + size <= two


@pytest.mark.parametrize("value", [b"\xff" * 16, bytes(16)])
def test_a_damaged_enrolment_heals(value: bytes) -> None:
    old = started(*RICH)
    old.steer.enrol(7, uid("client"))
    old.settle()
    key = (7).to_bytes(8, "little")
    view = row(old, 7).view
    old.tables.tables[ENROL][key] = value
    assert old.tables.connect(7, ADDR, 80).reason is Reason.INCONSISTENT
    new = restart(old)
    new.put(*everything(old))
    new.steer.start()
    new.settle()
    healed = new.tables.tables[ENROL][key]
    assert seal_last(key, healed) == healed
    assert new.met(view=row(new, 7).view) == {"10.1.0.2:8080"}
    assert row(new, 7).view >= view
