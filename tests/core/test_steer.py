"""The writer's brain against tables in memory: playbooks of what is written, and when."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.check import seal, seal_last
from kmesh.abi.layout import SLOT_SIZE, Config, Enrol, Reason, Vip, VipAction
from kmesh.bpf.fake import FakeKernel, FaultyTables
from kmesh.bpf.fake_guard import Decision
from kmesh.core import addr
from kmesh.core.commands import CIDR, CONFIG, ENROL, POD, VIP, Drop, Op, Phase, Put, WriteSlots
from kmesh.core.failures import FIRST_RETRY, LAST_RETRY
from kmesh.core.model import Mode, Scope, Service, Workload
from kmesh.core.segments import Full, Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from tests.core.meshes import DB, FAR, HOME, WEB, service, uid, workload

if TYPE_CHECKING:
    from collections.abc import Callable

IP, SECOND = "10.9.0.1", "10.9.0.2"
ADDR, ADDR2 = addr.parse(IP), addr.parse(SECOND)
A, B = workload("a", "10.1.0.1", of=WEB), workload("b", "10.1.0.2", of=WEB)
MESH = (service(WEB, IP), A, B)


class Mesh:
    """A brain and its tables, driven by hand."""

    def __init__(
        self,
        tables: FakeKernel | None = None,
        slots: int = 1 << 10,
        vips: int = 1 << 10,
        rest: float = 2.0,
    ) -> None:
        self.tables = tables or FakeKernel(vips, slots)
        vips, slots = self.tables.capacity()
        store = Store(HOME.network, HOME.cluster, HOME.node)
        self.steer = Steering(store, Segments(slots, rest), vips)
        self.steer.adopt(self.tables.scan())
        self.now = 100.0

    def put(self, *resources: Workload | Service) -> None:
        self.steer.put([(r.key if isinstance(r, Service) else r.uid, r) for r in resources])

    def drop(self, *names: str) -> None:
        self.steer.put([(name, None) for name in names])

    def settle(self) -> list[Op]:
        """Everything that can be done now."""
        done: list[Op] = []
        for _ in range(1000):
            ops = self.steer.next_ops(self.now)
            if not ops and self.steer.idle():
                return done
            outcome = self.tables.apply(ops)
            self.steer.report(ops, outcome, self.now)
            done += ops[: outcome.done]
        raise AssertionError("never idle")

    def until(self, phase: Phase) -> list[Op]:
        """Everything before the first slice with this phase; that slice."""
        for _ in range(100):
            ops = self.steer.next_ops(self.now)
            if phase in phases(ops):
                return ops
            self.steer.report(ops, self.tables.apply(ops), self.now)
        raise AssertionError(f"no {phase!r}")

    def met(self, port: int = 80, ip: str = IP, view: int = 0) -> Reason | set[str]:
        """A reason, or the endpoints."""
        found = self.tables.endpoints(addr.parse(ip), port, view)
        if isinstance(found, Decision):
            return found.reason
        assert {each.reason for each in found} == {Reason.BALANCED}
        return {addr.host_port(each.addr, each.port) for each in found}


def started(*resources: Workload | Service, **more: object) -> Mesh:
    mesh = Mesh(**more)  # type: ignore[arg-type]
    mesh.put(*resources)
    mesh.steer.start()
    mesh.settle()
    return mesh


def phases(ops: list[Op]) -> list[Phase]:
    return [op.phase for op in ops]


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


# Pods and views

RANKED = service(WEB, IP, mode=Mode.FAILOVER, preference=(Scope.REGION,))
FAR_B = B._replace(profile=FAR)


def row(mesh: Mesh, cookie: int) -> Enrol:
    return Enrol.unpack(mesh.tables.tables[ENROL][cookie.to_bytes(8, "little")])


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


# Failures


def failing(at: Callable[[int], bool]) -> Mesh:
    mesh = Mesh(FaultyTables(at, 1 << 10, 1 << 10))
    mesh.steer.start()
    return mesh


@pytest.mark.parametrize("at", range(1, 3))
def test_a_failed_operation_keeps_the_old_row_and_is_retried_later(at: int) -> None:
    calls: list[int] = []
    broken_calls: set[int] = set()

    def fails(number: int) -> bool:
        calls.append(number)
        return number in broken_calls

    mesh = failing(fails)
    mesh.put(*MESH)
    mesh.settle()
    broken_calls |= {len(calls) + at}
    mesh.put(service(WEB, IP, ports=((80, 1), (90, 2))))
    mesh.settle()
    assert list(mesh.steer.failing) == [(ADDR, 128)]
    failure = mesh.steer.failing[ADDR, 128]
    assert (failure.attempts, failure.due) == (1, mesh.now + FIRST_RETRY)
    assert "injected fault" in failure.why
    assert mesh.steer.next_due() == mesh.now + FIRST_RETRY
    assert mesh.steer.frontends.rejected() == {WEB: failure.why}
    old, new = ({"10.1.0.1:8080", "10.1.0.2:8080"}, {"10.1.0.1:1", "10.1.0.2:1"})
    assert mesh.met() in (old, new)
    assert mesh.settle() == [], "not before its time"
    mesh.now += FIRST_RETRY
    mesh.settle()
    assert mesh.steer.failing == {}
    assert mesh.steer.next_due() is None
    assert (mesh.met(), mesh.met(90)) == (new, {"10.1.0.1:2", "10.1.0.2:2"})


def test_retries_back_off_and_others_go_on() -> None:
    mesh = failing(lambda _: False)
    tables = mesh.tables
    apply = tables.apply

    def refuse_web(ops: list[Op]) -> object:
        from kmesh.core.tables import Outcome
        from kmesh.errors import BpfError

        for index, op in enumerate(ops):
            if op.owner == (ADDR, 128):
                apply(ops[:index])
                return Outcome(index, BpfError("no", 12))
        return apply(ops)

    tables.apply = refuse_web  # type: ignore[assignment, method-assign]
    mesh.put(*MESH, service(DB, SECOND), workload("d", "10.1.0.4", of=DB))
    mesh.settle()
    assert mesh.met() is Reason.NOT_MESH
    assert mesh.met(ip=SECOND) == {"10.1.0.4:8080"}
    waits = []
    for _ in range(10):
        due = mesh.steer.next_due()
        assert due is not None
        waits.append(due - mesh.now)
        mesh.now = due
        mesh.settle()
    expected = [min(FIRST_RETRY * 2**n, LAST_RETRY) for n in range(10)]
    assert waits == pytest.approx(expected)
    tables.apply = apply  # type: ignore[method-assign]
    mesh.now += LAST_RETRY
    mesh.settle()
    assert mesh.met() == {"10.1.0.1:8080", "10.1.0.2:8080"}
    assert mesh.steer.failing == {}


def test_turning_the_trie_off_may_fail_too_and_waits_for_its_turn() -> None:
    broken = False
    mesh = failing(lambda _: broken)
    mesh.put(service(WEB, "10.9.0.0/24"), A)
    mesh.settle()
    mesh.drop(WEB)
    ops = mesh.until(Phase.CIDRS_OFF)
    broken = True
    mesh.steer.report(ops, mesh.tables.apply(ops), mesh.now)
    assert mesh.settle() == [], "a writer that came back at once would never rest"
    assert mesh.steer.next_due() == mesh.now + FIRST_RETRY
    broken = False
    mesh.now += FIRST_RETRY
    assert phases(mesh.settle()) == [Phase.CIDRS_OFF]
    assert mesh.steer.failing == {}


def test_a_trie_that_is_needed_again_is_no_failure_any_more() -> None:
    broken = False
    mesh = failing(lambda _: broken)
    mesh.put(service(WEB, "10.9.0.0/24"), A)
    mesh.settle()
    mesh.drop(WEB)
    ops = mesh.until(Phase.CIDRS_OFF)
    broken = True
    mesh.steer.report(ops, mesh.tables.apply(ops), mesh.now)
    broken = False
    mesh.put(service(WEB, "10.9.0.0/24"))
    mesh.settle()
    assert mesh.steer.failing == {}
    assert mesh.met(ip="10.9.0.5") == {"10.1.0.1:8080"}


def test_a_pod_that_cannot_be_enrolled_is_retried() -> None:
    broken = True
    mesh = failing(lambda _: broken)
    mesh.steer.enrol(7, A.uid)
    mesh.settle()
    assert set(mesh.steer.failing) == {7}
    assert mesh.steer.frontends.rejected() == {}, "no resource is to blame"
    broken = False
    mesh.now += FIRST_RETRY
    mesh.settle()
    assert mesh.steer.failing == {}
    assert 7 in mesh.steer.pods.rows


def test_a_failing_pod_that_is_withdrawn_is_forgotten() -> None:
    mesh = failing(lambda _: True)
    mesh.steer.enrol(7, A.uid)
    mesh.settle()
    mesh.steer.withdraw(7)
    mesh.settle()
    assert mesh.steer.failing == {}


# Full tables


def test_full_then_grow_then_everything_is_there() -> None:
    mesh = Mesh(slots=2, vips=1 << 10)
    mesh.put(service(WEB, IP), *(workload(f"w{n}", f"10.1.1.{n}", of=WEB) for n in range(5)))
    mesh.steer.start()
    with pytest.raises(Full) as caught:
        mesh.settle()
    assert mesh.tables.tables[VIP] == {}, "refused before anything is half-written"
    mesh.tables.grow(0, caught.value.need)
    mesh.steer.planner.segments.grow(caught.value.need)
    mesh.settle()
    assert len(mesh.met()) == 5  # type: ignore[arg-type]


def test_a_frontend_that_does_not_fit_is_refused_and_the_others_go_on() -> None:
    big = [workload(f"w{n}", f"10.1.1.{n}", of=WEB) for n in range(9)]
    mesh = Mesh(slots=8)
    mesh.put(service(WEB, IP), *big, service(DB, SECOND), workload("d", "10.1.0.4", of=DB))
    mesh.steer.start()
    with pytest.raises(Full):
        mesh.settle()
    first = mesh.steer.frontends.first()
    assert first == (ADDR, 128)
    mesh.steer.fail(first, "too big", mesh.now)
    mesh.settle()
    assert mesh.met(ip=SECOND) == {"10.1.0.4:8080"}
    assert mesh.met() is Reason.NOT_MESH
    assert mesh.steer.frontends.rejected() == {WEB: "too big"}
    mesh.drop(*(w.uid for w in big[3:]))
    mesh.settle()
    assert mesh.met() is not Reason.NOT_MESH, "it fits now"
    assert mesh.steer.failing == {}


# Restart


def restart(mesh: Mesh) -> Mesh:
    """Another process on the same tables."""
    return Mesh(mesh.tables)


def everything(mesh: Mesh) -> list[Workload | Service]:
    store = mesh.steer.store
    return [*store.services.values(), *store.workloads.values()]


RICH = (
    RANKED,
    service(DB, SECOND, "10.8.0.0/16", ports=((80, 1), (443, 2))),
    A,
    FAR_B,
    workload("d", "10.1.0.4", of=DB, capacity=3),
    workload("e", "10.1.0.5", of=(DB, WEB)),
    workload("client", "10.1.0.9", profile=FAR),
)


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
