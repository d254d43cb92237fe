"""The writer's brain against tables in memory: playbooks of what is written, and when."""

from __future__ import annotations

from kmesh.abi.layout import Config, Reason, Vip, VipAction
from kmesh.bpf.fake import FakeKernel
from kmesh.core import addr
from kmesh.core.commands import CIDR, CONFIG, ENROL, POD, VIP, Drop, Op, Phase, Put, WriteSlots
from tests.core.brain import ADDR, FAR_B, IP, MESH, RANKED, SECOND, A, B, Mesh, phases, row, started
from tests.core.meshes import DB, FAR, WEB, service, uid, workload

# Start


def test_nothing_is_planned_before_the_start() -> None:
    mesh = Mesh()
    mesh.put(*MESH)
    assert mesh.settle() == []
    assert mesh.steer.statistics().dirty == 1
    mesh.steer.start()
    assert phases(mesh.settle()) == [Phase.SLOTS, Phase.PUT_PORT, Phase.PUT_ANY_PORT]
    assert mesh.met() == {"10.1.0.1:8080", "10.1.0.2:8080"}
    assert mesh.met(81) is Reason.UNKNOWN_PORT


def test_an_endpoint_before_its_service_is_used_when_it_comes() -> None:
    mesh = started(A)
    assert mesh.met() is Reason.NOT_MESH
    mesh.put(service(WEB, IP))
    mesh.settle()
    assert mesh.met() == {"10.1.0.1:8080"}


# Changes


def test_an_endpoint_that_leaves_costs_one_segment_and_one_record() -> None:
    mesh = started(*MESH)
    mesh.drop(B.uid)
    assert phases(mesh.settle()) == [Phase.SLOTS, Phase.PUT_PORT]
    assert mesh.met() == {"10.1.0.1:8080"}


def test_the_same_mesh_again_costs_nothing() -> None:
    mesh = started(*MESH)
    mesh.put(*MESH)
    mesh.put(A._replace(policies=("default/p",)))
    assert mesh.settle() == []


def test_a_port_that_goes_is_refused() -> None:
    mesh = started(service(WEB, IP, ports=((80, 1), (90, 2))), A)
    mesh.put(service(WEB, IP, ports=((80, 1),)))
    assert phases(mesh.settle()) == [Phase.DROP_PORT]
    assert mesh.met(90) is Reason.UNKNOWN_PORT


def test_a_vip_moves_to_another_service_without_a_gap() -> None:
    mesh = started(*MESH)
    mesh.put(
        service(WEB, SECOND), service(DB, IP, ports=((80, 5432),)),
        workload("d", "10.1.0.4", of=DB),
    )  # fmt: skip
    before = mesh.tables.scan()
    ops = mesh.settle()
    again = FakeKernel()
    again.tables = {
        VIP: dict(before.vips), CIDR: {}, ENROL: {}, POD: {}, CONFIG: {bytes(4): before.config},
    }  # fmt: skip
    again.slots = bytearray(before.slots)
    for op in ops:
        again.apply([op])
        found = again.endpoints(ADDR, 80)
        assert isinstance(found, set), op
    assert mesh.met() == {"10.1.0.4:5432"}
    assert mesh.met(ip=SECOND) == {"10.1.0.1:8080", "10.1.0.2:8080"}


def test_a_service_that_goes_leaves_no_row() -> None:
    mesh = started(*MESH)
    mesh.drop(WEB)
    mesh.settle()
    assert mesh.tables.tables[VIP] == {}
    assert mesh.met() is Reason.NOT_MESH


def test_the_trie_is_asked_only_while_there_are_cidrs() -> None:
    mesh = started(service(WEB, "10.9.0.0/24"), A)
    assert mesh.met(ip="10.9.0.77") == {"10.1.0.1:8080"}
    assert Config.unpack(mesh.tables.tables[CONFIG][bytes(4)]).cidrs == 1
    mesh.drop(WEB)
    assert phases(mesh.settle())[-1] is Phase.CIDRS_OFF
    assert Config.unpack(mesh.tables.tables[CONFIG][bytes(4)]).cidrs == 0
    assert mesh.tables.tables[CIDR] == {}


def test_a_view_s_records_come_before_its_pod() -> None:
    mesh = started(RANKED, A, FAR_B, workload("client", "10.1.0.9", profile=FAR))
    mesh.steer.enrol(7, uid("client"))
    ops = mesh.settle()
    assert phases(ops)[-2:] == [Phase.POD, Phase.ENROL]
    assert Phase.PUT_OWN_PORT in phases(ops)
    assert mesh.met(view=row(mesh, 7).view) == {"10.1.0.2:8080"}
    assert mesh.met() == {"10.1.0.1:8080"}


def test_a_view_s_records_go_with_its_last_pod() -> None:
    mesh = started(RANKED, A, FAR_B, workload("client", "10.1.0.9", profile=FAR))
    bare = dict(mesh.tables.tables[VIP])
    mesh.steer.enrol(7, uid("client"))
    mesh.settle()
    assert len(mesh.tables.tables[VIP]) == len(bare) + 1
    mesh.steer.withdraw(7)
    mesh.settle()
    assert mesh.tables.tables[VIP] == bare
    assert mesh.tables.tables[ENROL] == mesh.tables.tables[POD] == {}


def test_a_pod_enrolled_before_its_workload_is_known_gets_its_view_later() -> None:
    mesh = started(RANKED, A, FAR_B)
    mesh.steer.enrol(7, uid("client"))
    mesh.settle()
    assert row(mesh, 7).view == 0
    mesh.put(workload("client", "10.1.0.9", profile=FAR))
    mesh.settle()
    assert mesh.met(view=row(mesh, 7).view) == {"10.1.0.2:8080"}


def test_when_this_node_turns_out_to_be_elsewhere_its_answers_follow() -> None:
    mesh = started(RANKED, A._replace(profile=FAR), B._replace(profile=FAR._replace(region="r1")))
    assert mesh.met() == {"10.1.0.1:8080", "10.1.0.2:8080"}, "nothing is known, nothing is near"
    mesh.put(workload("local", "10.1.0.9"))
    mesh.settle()
    assert mesh.met() == {"10.1.0.2:8080"}


# Writes are what was planned


def test_a_first_service_op_by_op() -> None:
    mesh = Mesh()
    mesh.put(service(WEB, IP), A)
    mesh.steer.start()
    slots, port, others = mesh.settle()
    frontend = (ADDR, 128)
    slot = addr.parse("10.1.0.1") + (1).to_bytes(4, "little") + bytes(4)
    assert slots == Op(Phase.SLOTS, WriteSlots(0, slot, 1), frontend)
    key = ADDR + bytes(4) + (80).to_bytes(2, "little") + bytes((128, 0))
    value = Vip(0, 1, 1, 1, 8080, VipAction.BALANCE, Reason.BALANCED, 0, 0, 0, 0).pack()
    assert port == Op(Phase.PUT_PORT, Put(VIP, key, value), frontend)
    key = ADDR + bytes(4) + bytes(2) + bytes((128, 0))
    value = Vip(0, 0, 1, 0, 0, VipAction.REFUSE, Reason.UNKNOWN_PORT, 0, 0, 0, 0).pack()
    assert others == Op(Phase.PUT_ANY_PORT, Put(VIP, key, value), frontend)
    mesh.drop(WEB)
    assert [op.command for op in mesh.settle()] == [
        Drop(VIP, key),
        Drop(VIP, ADDR + bytes(4) + (80).to_bytes(2, "little") + bytes((128, 0))),
    ]
